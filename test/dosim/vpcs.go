package dosim

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

var vpcRoutes = []route{
	{"GET", "/v2/vpcs", "vpc:read", 200, (*Server).listVPCs},
	{"POST", "/v2/vpcs", "vpc:create", 201, (*Server).createVPC},
	{"GET", "/v2/vpcs/{vpc}", "vpc:read", 200, (*Server).getVPC},
	{"PUT", "/v2/vpcs/{vpc}", "vpc:update", 200, (*Server).updateVPC},
	{"PATCH", "/v2/vpcs/{vpc}", "vpc:update", 200, (*Server).updateVPC},
	{"DELETE", "/v2/vpcs/{vpc}", "vpc:delete", 204, (*Server).deleteVPC},
	{"GET", "/v2/vpcs/{vpc}/members", "vpc:read", 200, (*Server).listMembers},
}

// vpc is a private network.
type vpc struct {
	ID, Name, Description, Region, Created string
	Range                                  netip.Prefix
	Default                                bool
	inUse                                  map[netip.Addr]bool
}

var vpcName = regexp.MustCompile(`^[a-zA-Z0-9\-.]+$`)

func (v *vpc) wire() object {
	return object{"id": v.ID, "urn": "do:vpc:" + v.ID, "name": v.Name, "description": v.Description, "region": v.Region,
		"ip_range": v.Range.String(), "created_at": v.Created, "default": v.Default}
}

// address takes the lowest free address. The first is the gateway's.
func (v *vpc) address() (netip.Addr, error) {
	last := lastOf(v.Range)
	for a := v.Range.Addr().Next().Next(); a.Less(last); a = a.Next() {
		if !v.inUse[a] {
			v.inUse[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address is free in %s", v.Range)
}

// defaultVPC is made with the first droplet of a region.
func (s *Server) defaultVPC(region string) *vpc {
	for _, v := range s.vpcs {
		if v.Region == region && v.Default {
			return v
		}
	}
	return s.addVPC("default-"+region, region, s.freeRange(), true)
}

func (s *Server) addVPC(name, region string, p netip.Prefix, isDefault bool) *vpc {
	v := &vpc{ID: uuid.NewString(), Name: name, Region: region, Range: p, Created: stamp(time.Now()), Default: isDefault, inUse: map[netip.Addr]bool{}}
	s.vpcs = append(s.vpcs, v)
	return v
}

// freeRange is the first /20 from 10.116.0.0 on that overlaps with none in use.
func (s *Server) freeRange() netip.Prefix {
	for n := 0; ; n++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(116 + n/16), byte(n % 16 * 16), 0}), 20)
		if !s.overlaps(p) {
			return p
		}
	}
}

func (s *Server) overlaps(p netip.Prefix) bool {
	return slices.ContainsFunc(s.vpcs, func(v *vpc) bool { return v.Range.Overlaps(p) })
}

func (s *Server) vpc(id string) (*vpc, error) {
	return find(s.vpcs, func(v *vpc) bool { return v.ID == id })
}

func (s *Server) listVPCs(r *request) (any, error) {
	return page(s, r, "vpcs", wires(s.vpcs, (*vpc).wire))
}

func (s *Server) getVPC(r *request) (any, error) {
	v, err := s.vpc(r.PathValue("vpc"))
	if err != nil {
		return nil, err
	}
	return object{"vpc": v.wire()}, nil
}

func (s *Server) createVPC(r *request) (any, error) {
	var in struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Region      string `json:"region"`
		IPRange     string `json:"ip_range"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if !vpcName.MatchString(in.Name) || slices.ContainsFunc(s.vpcs, func(v *vpc) bool { return strings.EqualFold(v.Name, in.Name) }) {
		return nil, invalid("name is invalid or in use")
	}
	if g, ok := regionBySlug(in.Region); !ok || !g.available {
		return nil, invalid("region is invalid")
	}
	p := s.freeRange()
	if in.IPRange != "" {
		var err error
		p, err = netip.ParsePrefix(in.IPRange)
		if err != nil || !p.Addr().Is4() || !p.Addr().IsPrivate() || p.Bits() < 16 || p.Bits() > 28 || p != p.Masked() {
			return nil, invalid("ip_range must be a private network of RFC 1918, between /16 and /28")
		}
		if s.overlaps(p) {
			return nil, invalid("This range/size overlaps with another VPC network in your account")
		}
	}
	v := s.addVPC(in.Name, in.Region, p, !slices.ContainsFunc(s.vpcs, func(v *vpc) bool { return v.Region == in.Region && v.Default }))
	v.Description = in.Description
	return object{"vpc": v.wire()}, nil
}

func (s *Server) updateVPC(r *request) (any, error) {
	v, err := s.vpc(r.PathValue("vpc"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Name        *string `json:"name"`
		Description *string `json:"description"`
		Default     bool    `json:"default"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Name != nil {
		if !vpcName.MatchString(*in.Name) {
			return nil, invalid("name is invalid")
		}
		v.Name = *in.Name
	}
	if in.Description != nil {
		v.Description = *in.Description
	}
	if in.Default {
		for _, o := range s.vpcs {
			o.Default = o == v || o.Default && o.Region != v.Region
		}
	}
	return object{"vpc": v.wire()}, nil
}

func (s *Server) deleteVPC(r *request) (any, error) {
	v, err := s.vpc(r.PathValue("vpc"))
	switch {
	case err != nil:
		return nil, err
	case v.Default:
		return nil, &apiError{403, "forbidden", "Can not delete default VPCs"}
	case len(s.members(v)) > 0:
		return nil, &apiError{403, "forbidden", "Can not delete VPC with members"}
	}
	s.vpcs = filter(s.vpcs, func(o *vpc) bool { return o != v })
	return nil, nil
}

func (s *Server) members(v *vpc) []*droplet {
	return filter(s.sorted(), func(d *droplet) bool { return d.VPC == v })
}

func (s *Server) listMembers(r *request) (any, error) {
	v, err := s.vpc(r.PathValue("vpc"))
	if err != nil {
		return nil, err
	}
	return page(s, r, "members", wires(s.members(v), func(d *droplet) object {
		return object{"urn": dropletURN(d.ID), "name": d.Name, "created_at": d.Created}
	}))
}

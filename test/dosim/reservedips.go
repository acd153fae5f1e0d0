package dosim

import (
	"cmp"
	"net/netip"
	"strconv"
)

// reservedIPLimit is how many reserved IPs an account may have.
const reservedIPLimit = 5

var reservedIPRoutes = []route{
	{"GET", "/v2/reserved_ips", "reserved_ip:read", 200, (*Server).listReservedIPs},
	{"POST", "/v2/reserved_ips", "reserved_ip:create", 202, (*Server).createReservedIP},
	{"GET", "/v2/reserved_ips/{ip}", "reserved_ip:read", 200, (*Server).getReservedIP},
	{"DELETE", "/v2/reserved_ips/{ip}", "reserved_ip:delete", 204, (*Server).deleteReservedIP},
	{"GET", "/v2/reserved_ips/{ip}/actions", "reserved_ip:read", 200, (*Server).listReservedIPActions},
	{"POST", "/v2/reserved_ips/{ip}/actions", "reserved_ip:update", 201, (*Server).createReservedIPAction},
	{"GET", "/v2/reserved_ips/{ip}/actions/{action}", "reserved_ip:read", 200, (*Server).getReservedIPAction},
}

// reservedIP is an address that can be moved between the droplets of a region.
type reservedIP struct {
	IP      netip.Addr
	Region  string
	Droplet *droplet // nil if not assigned
	actions []*action
}

func (s *Server) wireReservedIP(ip *reservedIP) object {
	w := object{"ip": ip.IP.String(), "region": regionWire(ip.Region), "droplet": nil, "locked": false, "project_id": s.projects[0].ID}
	for _, p := range s.projects {
		for _, m := range p.Resources {
			if m.URN == "do:reservedip:"+ip.IP.String() {
				w["project_id"] = p.ID
			}
		}
	}
	if ip.Droplet != nil {
		w["droplet"] = s.wireDroplet(ip.Droplet)
	}
	return w
}

func (s *Server) reservedIP(r *request) (*reservedIP, error) {
	return find(s.reserved, func(ip *reservedIP) bool { return ip.IP.String() == r.PathValue("ip") })
}

func (s *Server) listReservedIPs(r *request) (any, error) {
	return page(s, r, "reserved_ips", wires(s.reserved, s.wireReservedIP))
}

func (s *Server) getReservedIP(r *request) (any, error) {
	ip, err := s.reservedIP(r)
	if err != nil {
		return nil, err
	}
	return object{"reserved_ip": s.wireReservedIP(ip)}, nil
}

func (s *Server) createReservedIP(r *request) (any, error) {
	var in struct {
		Region    string `json:"region"`
		DropletID int    `json:"droplet_id"`
		ProjectID string `json:"project_id"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if len(s.reserved) >= reservedIPLimit {
		return nil, invalid("reserved IP limit exceeded")
	}
	ip := &reservedIP{Region: in.Region, Droplet: s.droplets[in.DropletID]}
	if in.DropletID != 0 {
		if err := assignable(ip.Droplet, ""); err != nil {
			return nil, err
		}
		ip.Region = ip.Droplet.Region
	} else if g, ok := regionBySlug(in.Region); !ok || !g.available {
		return nil, invalid("invalid region")
	}
	p, err := s.project(cmp.Or(in.ProjectID, "default"))
	if err != nil {
		return nil, invalid("invalid project")
	}
	if ip.IP, err = s.publicAddress(); err != nil {
		return nil, invalid("%v", err)
	}
	s.reserved = append(s.reserved, ip)
	p.assign("do:reservedip:" + ip.IP.String())
	out := object{"reserved_ip": s.wireReservedIP(ip), "links": object{"droplets": []object{}, "actions": []object{}}}
	if ip.Droplet != nil {
		a := s.newAction("assign_ip", "reserved_ip", addressNumber(ip.IP), ip.Region)
		a.end(nil)
		ip.actions = append(ip.actions, a)
		out["links"] = object{
			"droplets": []object{{"id": ip.Droplet.ID, "rel": "droplet", "href": s.URL + "/v2/droplets/" + strconv.Itoa(ip.Droplet.ID)}},
			"actions":  []object{{"id": a.ID, "rel": "assign_ip", "href": s.URL + "/v2/actions/" + strconv.Itoa(a.ID)}},
		}
	}
	return out, nil
}

// addressNumber is the id that actions call a reserved IP by.
func addressNumber(a netip.Addr) int {
	b := a.As4()
	return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}

func assignable(d *droplet, region string) error {
	switch {
	case d == nil:
		return invalid("droplet does not exist")
	case d.Status == "new":
		return invalid("Droplet already has a pending event.")
	case !d.Public.IsValid():
		return invalid("droplet has no public network")
	case region != "" && region != d.Region:
		return invalid("the droplet and the reserved IP must be in the same region")
	}
	return nil
}

func (s *Server) deleteReservedIP(r *request) (any, error) {
	ip, err := s.reservedIP(r)
	if err != nil {
		return nil, err
	}
	s.reserved = filter(s.reserved, func(o *reservedIP) bool { return o != ip })
	for _, p := range s.projects {
		p.Resources = filter(p.Resources, func(m member) bool { return m.URN != "do:reservedip:"+ip.IP.String() })
	}
	delete(s.inUse, ip.IP)
	return nil, nil
}

func (s *Server) createReservedIPAction(r *request) (any, error) {
	ip, err := s.reservedIP(r)
	if err != nil {
		return nil, err
	}
	var in struct {
		Type      string `json:"type"`
		DropletID int    `json:"droplet_id"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	kind := in.Type + "_ip"
	switch in.Type {
	case "assign":
		d := s.droplets[in.DropletID]
		if err := assignable(d, ip.Region); err != nil {
			return nil, err
		}
		ip.Droplet = d
	case "unassign":
		ip.Droplet = nil
	default:
		return nil, invalid("type must be assign or unassign")
	}
	a := s.newAction(kind, "reserved_ip", addressNumber(ip.IP), ip.Region)
	ip.actions = append(ip.actions, a)
	s.later(s.opt.ActionAfter, func() { a.end(nil) })
	return object{"action": a.wire()}, nil
}

func (s *Server) listReservedIPActions(r *request) (any, error) {
	ip, err := s.reservedIP(r)
	if err != nil {
		return nil, err
	}
	return page(s, r, "actions", wires(ip.actions, (*action).wire))
}

func (s *Server) getReservedIPAction(r *request) (any, error) {
	ip, err := s.reservedIP(r)
	if err != nil {
		return nil, err
	}
	a, err := find(ip.actions, func(a *action) bool { return strconv.Itoa(a.ID) == r.PathValue("action") })
	if err != nil {
		return nil, err
	}
	return object{"action": a.wire()}, nil
}

package dosim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// metadata serves what a droplet is told of itself at http://169.254.169.254: /metadata/v1.json as a whole, and below /metadata/v1/
// each part as text, with a list of names where there are more parts.
func (s *Server) metadata(d *droplet) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		v := s.metadataOf(d)
		s.mu.Unlock()
		s.logf("droplet %d: metadata %s", d.ID, r.URL.Path)
		switch path := strings.TrimSuffix(r.URL.Path, "/"); {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		case path == "/metadata/v1.json":
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_ = json.NewEncoder(w).Encode(v)
		case path == "/metadata":
			fmt.Fprint(w, "v1/\nv1.json")
		case path == "/metadata/v1" || strings.HasPrefix(path, "/metadata/v1/"):
			text, ok := part(v, strings.Split(strings.Trim(strings.TrimPrefix(path, "/metadata/v1"), "/"), "/"))
			if !ok {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, text)
		default:
			http.NotFound(w, r)
		}
	})
}

// Nameservers are what a droplet is to ask.
func Nameservers() []string { return []string{"67.207.67.2", "67.207.67.3"} }

func (s *Server) metadataOf(d *droplet) object {
	nic := func(v4 object, mac, kind string) object { return object{"ipv4": v4, "mac": mac, "type": kind} }
	p := d.VPC.Range
	interfaces := object{"private": []any{nic(object{"ip_address": d.Private.String(), "netmask": netmask(p), "gateway": p.Addr().Next().String()}, mac(d.ID, 1), "private")}}
	if d.Public.IsValid() {
		n := nic(object{"ip_address": d.Public.String(), "netmask": netmask(s.public), "gateway": s.public.Addr().Next().String()}, mac(d.ID, 0), "public")
		if d.PublicV6.IsValid() {
			n["ipv6"] = object{"ip_address": d.PublicV6.String(), "cidr": 64, "gateway": gatewayV6}
		}
		interfaces["public"] = []any{n}
	}
	reserved := object{"active": false}
	for _, ip := range s.reserved {
		if ip.Droplet == d {
			reserved = object{"active": true, "ip_address": ip.IP.String()}
		}
	}
	v := object{
		"droplet_id": d.ID, "hostname": d.Name, "region": d.Region, "public_keys": list(d.Keys), "interfaces": interfaces,
		"floating_ip": object{"ipv4": reserved}, "reserved_ip": object{"ipv4": reserved}, "tags": list(d.Tags),
		"dns":         object{"nameservers": list(Nameservers())},
		"features":    object{"dhcp_enabled": false},
		"vendor_data": "#cloud-config\n{}\n", "modify_index": d.ID,
	}
	if d.UserData != "" {
		v["user_data"] = d.UserData
	}
	return v
}

func list(s []string) []any {
	out := []any{}
	for _, v := range s {
		out = append(out, v)
	}
	return out
}

// part walks down a path of names and positions. Names are written with dashes where JSON has underscores.
func part(v any, path []string) (string, bool) {
	if len(path) == 1 && path[0] == "" {
		path = nil
	}
	names := map[string]string{"id": "droplet_id", "nameservers": "nameservers"}
	for _, name := range path {
		switch x := v.(type) {
		case object:
			key, ok := names[name]
			if !ok {
				key = strings.ReplaceAll(name, "-", "_")
			}
			if key == "address" {
				key = "ip_address"
			}
			if v, ok = x[key]; !ok {
				return "", false
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return "", false
			}
			v = x[i]
		default:
			return "", false
		}
	}
	return text(v), true
}

func text(v any) string {
	var lines []string
	switch x := v.(type) {
	case object:
		for name, child := range x {
			name = strings.ReplaceAll(name, "_", "-")
			switch {
			case name == "droplet-id":
				name = "id"
			case name == "ip-address":
				name = "address"
			}
			switch c := child.(type) {
			case object:
				name += "/"
			case []any:
				if len(c) > 0 {
					if _, ok := c[0].(object); ok {
						name += "/"
					}
				}
			}
			lines = append(lines, name)
		}
		slices.Sort(lines)
	case []any:
		for i, child := range x {
			if _, ok := child.(object); ok {
				lines = append(lines, strconv.Itoa(i)+"/")
			} else {
				lines = append(lines, fmt.Sprint(child))
			}
		}
	default:
		return fmt.Sprint(v)
	}
	return strings.Join(lines, "\n")
}

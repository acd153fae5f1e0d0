package dosim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

var projectRoutes = []route{
	{"GET", "/v2/projects", "project:read", 200, (*Server).listProjects},
	{"POST", "/v2/projects", "project:create", 201, (*Server).createProject},
	{"GET", "/v2/projects/{project}", "project:read", 200, (*Server).getProject},
	{"PATCH", "/v2/projects/{project}", "project:update", 200, (*Server).updateProject},
	{"PUT", "/v2/projects/{project}", "project:update", 200, (*Server).updateProject},
	{"DELETE", "/v2/projects/{project}", "project:delete", 204, (*Server).deleteProject},
	{"GET", "/v2/projects/{project}/resources", "project:read", 200, (*Server).listResources},
	{"POST", "/v2/projects/{project}/resources", "project:update", 200, (*Server).assignResources},
}

type project struct {
	ID, Name, Description, Purpose, Environment, Created, Updated string
	Default                                                       bool
	Resources                                                     []member
}

// member is a resource of a project.
type member struct{ URN, Assigned string }

func (p *project) wire() object {
	return object{"id": p.ID, "owner_uuid": "99525febec065ca37b2ffe4f852fd2b2581895e7", "owner_id": 258992, "name": p.Name,
		"description": p.Description, "purpose": p.Purpose, "environment": p.Environment, "is_default": p.Default,
		"created_at": p.Created, "updated_at": p.Updated}
}

func (s *Server) memberWire(m member) object {
	self := s.URL + "/v2/" + strings.Replace(strings.TrimPrefix(m.URN, "do:"), ":", "s/", 1)
	return object{"urn": m.URN, "assigned_at": m.Assigned, "links": object{"self": self}, "status": "ok"}
}

func (p *project) assign(urn string) member {
	m := member{urn, stamp(time.Now())}
	p.Resources = append(p.Resources, m)
	return m
}

func (s *Server) project(ref string) (*project, error) {
	return find(s.projects, func(p *project) bool { return p.ID == ref || ref == "default" && p.Default })
}

func (s *Server) listProjects(r *request) (any, error) {
	return page(s, r, "projects", wires(s.projects, (*project).wire))
}

func (s *Server) getProject(r *request) (any, error) {
	p, err := s.project(r.PathValue("project"))
	if err != nil {
		return nil, err
	}
	return object{"project": p.wire()}, nil
}

// projectRequest is a body in which what is missing is left as it is.
type projectRequest struct {
	Name        *string `json:"name"`
	Description *string `json:"description"`
	Purpose     *string `json:"purpose"`
	Environment *string `json:"environment"`
	Default     *bool   `json:"is_default"`
}

func (s *Server) apply(in projectRequest, p *project) error {
	for to, v := range map[*string]*string{&p.Name: in.Name, &p.Description: in.Description, &p.Purpose: in.Purpose, &p.Environment: in.Environment} {
		if v != nil {
			*to = *v
		}
	}
	switch {
	case p.Name == "" || len(p.Name) > 175:
		return invalid("name is required and must be at most 175 characters")
	case p.Purpose == "":
		return invalid("purpose is required")
	case p.Environment != "" && !slices.Contains([]string{"Development", "Staging", "Production"}, p.Environment):
		return invalid("environment must be one of Development, Staging, Production")
	case slices.ContainsFunc(s.projects, func(o *project) bool { return o.ID != p.ID && o.Name == p.Name }):
		return &apiError{409, "conflict", "name is already in use"}
	}
	if in.Default != nil && *in.Default {
		for _, o := range s.projects {
			o.Default = false
		}
		p.Default = true
	}
	p.Updated = stamp(time.Now())
	return nil
}

func (s *Server) createProject(r *request) (any, error) {
	var in projectRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	p := &project{ID: uuid.NewString(), Created: stamp(time.Now())}
	if err := s.apply(in, p); err != nil {
		return nil, err
	}
	s.projects = append(s.projects, p)
	return object{"project": p.wire()}, nil
}

func (s *Server) updateProject(r *request) (any, error) {
	p, err := s.project(r.PathValue("project"))
	if err != nil {
		return nil, err
	}
	var in projectRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	changed := *p
	if err := s.apply(in, &changed); err != nil {
		return nil, err
	}
	*p = changed
	return object{"project": p.wire()}, nil
}

func (s *Server) deleteProject(r *request) (any, error) {
	p, err := s.project(r.PathValue("project"))
	switch {
	case err != nil:
		return nil, err
	case len(p.Resources) > 0 || p.Default:
		return nil, &apiError{412, "precondition_failed", "cannot delete a project with resources. move or remove the resources first."}
	}
	s.projects = filter(s.projects, func(o *project) bool { return o != p })
	return nil, nil
}

func (s *Server) listResources(r *request) (any, error) {
	p, err := s.project(r.PathValue("project"))
	if err != nil {
		return nil, err
	}
	return page(s, r, "resources", wires(p.Resources, s.memberWire))
}

var urn = regexp.MustCompile(`^do:(droplet|volume|reservedip|floatingip):[0-9a-zA-Z.-]+$`)

// assignResources moves resources into a project: a resource is in one project only.
func (s *Server) assignResources(r *request) (any, error) {
	p, err := s.project(r.PathValue("project"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Resources []string `json:"resources"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	out := []object{}
	for _, u := range in.Resources {
		u = strings.ToLower(u)
		if !urn.MatchString(u) {
			return nil, invalid("%s is not a resource that this simulator has", u)
		}
		m := member{URN: u}
		status := "not_found"
		if s.exists(u) {
			for _, o := range s.projects {
				o.Resources = filter(o.Resources, func(m member) bool { return m.URN != u })
			}
			m, status = p.assign(u), "assigned"
		}
		w := s.memberWire(m)
		w["status"] = status
		out = append(out, w)
	}
	return object{"resources": out, "links": object{}, "meta": object{"total": len(out)}}, nil
}

// exists says whether a URN names a resource.
func (s *Server) exists(u string) bool {
	for _, d := range s.droplets {
		if dropletURN(d.ID) == u {
			return true
		}
	}
	for _, v := range s.volumes {
		if "do:volume:"+v.ID == u {
			return true
		}
	}
	for _, ip := range s.reserved {
		if fmt.Sprint("do:reservedip:", ip.IP) == u || fmt.Sprint("do:floatingip:", ip.IP) == u {
			return true
		}
	}
	return false
}

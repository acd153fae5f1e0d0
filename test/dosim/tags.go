package dosim

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var tagRoutes = []route{
	{"GET", "/v2/tags", "tag:read", 200, (*Server).listTags},
	{"POST", "/v2/tags", "tag:create", 201, (*Server).createTag},
	{"GET", "/v2/tags/{tag}", "tag:read", 200, (*Server).getTag},
	{"DELETE", "/v2/tags/{tag}", "tag:delete", 204, (*Server).deleteTag},
	{"POST", "/v2/tags/{tag}/resources", "tag:create", 204, (*Server).tagResources},
	{"DELETE", "/v2/tags/{tag}/resources", "tag:delete", 204, (*Server).tagResources},
}

// tag is a name that resources can bear.
type tag struct {
	Name string
	Last string // path of what was tagged last
}

var tagName = regexp.MustCompile(`^[a-zA-Z0-9_\-:]+$`)

func (s *Server) tag(name string) (*tag, error) {
	return find(s.tags, func(t *tag) bool { return strings.EqualFold(t.Name, name) })
}

// ensureTag notes that the resource at a path has been given a tag, which is made if there is none of that name.
func (s *Server) ensureTag(name, path string) *tag {
	t, err := s.tag(name)
	if err != nil {
		t = &tag{Name: name}
		s.tags = append(s.tags, t)
	}
	t.Last = path
	return t
}

// tagged are the tags of what can be tagged, by kind and id.
func (s *Server) tagged(kind, id string) *[]string {
	n, _ := strconv.Atoi(id)
	switch kind {
	case "droplet":
		if d := s.droplets[n]; d != nil {
			return &d.Tags
		}
	case "image":
		if im, err := s.own(id); err == nil {
			return &im.Tags
		}
	case "volume":
		if v, err := s.volume(id); err == nil {
			return &v.Tags
		}
	case "volume_snapshot":
		if _, v, err := s.snapshot(id); err == nil && v != nil {
			return &v.Tags
		}
	}
	return nil
}

func (s *Server) wireTag(t *tag) object {
	count := func(n int) object {
		o := object{"count": n}
		if n > 0 {
			o["last_tagged_uri"] = s.URL + t.Last
		}
		return o
	}
	droplets := len(filter(s.sorted(), func(d *droplet) bool { return hasTag(d.Tags, t.Name) }))
	images := len(filter(s.images, func(im *image) bool { return hasTag(im.Tags, t.Name) }))
	volumes := len(filter(s.volumes, func(v *volume) bool { return hasTag(v.Tags, t.Name) }))
	snapshots := len(filter(s.snapshots, func(v *volumeSnapshot) bool { return hasTag(v.Tags, t.Name) }))
	res := count(droplets + images + volumes + snapshots)
	res["droplets"], res["images"], res["volumes"], res["volume_snapshots"], res["databases"] = count(droplets), count(images), count(volumes), count(snapshots), count(0)
	return object{"name": t.Name, "resources": res}
}

func (s *Server) listTags(r *request) (any, error) {
	return page(s, r, "tags", wires(s.tags, s.wireTag))
}

func (s *Server) getTag(r *request) (any, error) {
	t, err := s.tag(r.PathValue("tag"))
	if err != nil {
		return nil, err
	}
	return object{"tag": s.wireTag(t)}, nil
}

func (s *Server) createTag(r *request) (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if !tagName.MatchString(in.Name) || len(in.Name) > 255 {
		return nil, invalid("Tag name is invalid: only letters, numbers, colons, dashes and underscores are allowed")
	}
	t, err := s.tag(in.Name)
	if err != nil {
		t = &tag{Name: in.Name}
		s.tags = append(s.tags, t)
	}
	return object{"tag": s.wireTag(t)}, nil
}

func (s *Server) deleteTag(r *request) (any, error) {
	t, err := s.tag(r.PathValue("tag"))
	if err != nil {
		return nil, err
	}
	s.tags = filter(s.tags, func(o *tag) bool { return o != t })
	untag := func(tags *[]string) {
		*tags = filter(*tags, func(n string) bool { return !strings.EqualFold(n, t.Name) })
	}
	for _, d := range s.droplets {
		untag(&d.Tags)
	}
	for _, im := range s.images {
		untag(&im.Tags)
	}
	for _, v := range s.volumes {
		untag(&v.Tags)
	}
	for _, v := range s.snapshots {
		untag(&v.Tags)
	}
	for _, f := range s.firewalls {
		untag(&f.Tags)
	}
	return nil, nil
}

// tagResources tags or untags.
func (s *Server) tagResources(r *request) (any, error) {
	t, err := s.tag(r.PathValue("tag"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Resources []struct {
			ID   string `json:"resource_id"`
			Type string `json:"resource_type"`
		} `json:"resources"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	for _, res := range in.Resources {
		tags := s.tagged(res.Type, res.ID)
		if tags == nil {
			return nil, notFound()
		}
		*tags = slices.DeleteFunc(slices.Clone(*tags), func(n string) bool { return strings.EqualFold(n, t.Name) })
		if r.Method == "POST" {
			*tags = append(*tags, t.Name)
			t.Last = "/v2/" + res.Type + "s/" + res.ID
		}
	}
	return nil, nil
}

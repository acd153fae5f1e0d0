package dosim

import (
	"strconv"
)

var imageRoutes = []route{
	{"GET", "/v2/images", "image:read", 200, (*Server).listImages},
	{"GET", "/v2/images/{image}", "image:read", 200, (*Server).getImage},
	{"PUT", "/v2/images/{image}", "image:update", 200, (*Server).updateImage},
	{"DELETE", "/v2/images/{image}", "image:delete", 204, (*Server).deleteImage},
	{"GET", "/v2/snapshots", "image:read", 200, (*Server).listSnapshots},
	{"GET", "/v2/snapshots/{snapshot}", "image:read", 200, (*Server).getSnapshot},
	{"DELETE", "/v2/snapshots/{snapshot}", "image:delete", 204, (*Server).deleteSnapshot},
}

// image finds an image by its id or its slug.
func (s *Server) image(ref string) (*image, error) {
	return find(s.images, func(im *image) bool { return ref != "" && (im.Slug == ref || strconv.Itoa(im.ID) == ref) })
}

func (s *Server) listImages(r *request) (any, error) {
	q := r.URL.Query()
	kind, private, tag := q.Get("type"), q.Get("private") == "true", q.Get("tag_name")
	list := filter(s.images, func(im *image) bool {
		return (kind == "" || im.Kind == kind) && (!private || im.Slug == "") && (tag == "" || hasTag(im.Tags, tag))
	})
	return page(s, r, "images", wires(list, (*image).wire))
}

func (s *Server) getImage(r *request) (any, error) {
	im, err := s.image(r.PathValue("image"))
	if err != nil {
		return nil, err
	}
	return object{"image": im.wire()}, nil
}

// own finds an image that the user may change.
func (s *Server) own(ref string) (*image, error) {
	im, err := s.image(ref)
	if err == nil && im.Slug != "" {
		return nil, &apiError{403, "forbidden", "You do not have permission to perform this action."}
	}
	return im, err
}

func (s *Server) updateImage(r *request) (any, error) {
	im, err := s.own(r.PathValue("image"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Name         *string `json:"name"`
		Distribution *string `json:"distribution"`
		Description  *string `json:"description"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	for to, v := range map[*string]*string{&im.Name: in.Name, &im.Distribution: in.Distribution, &im.Description: in.Description} {
		if v != nil {
			*to = *v
		}
	}
	return object{"image": im.wire()}, nil
}

func (s *Server) deleteImage(r *request) (any, error) {
	im, err := s.own(r.PathValue("image"))
	if err != nil {
		return nil, err
	}
	s.dropImage(im)
	return nil, nil
}

func (s *Server) dropImage(im *image) {
	s.images = filter(s.images, func(o *image) bool { return o != im })
	if s.storage == nil || im.Of == 0 {
		return
	}
	s.background(func() {
		if err := s.storage.DropSnapshot(im.ID); err != nil {
			s.logf("snapshot %d: %v", im.ID, err)
		}
	})
}

// snapshotWire is a droplet's snapshot in the list of all snapshots.
func snapshotWire(im *image) object {
	return object{"id": strconv.Itoa(im.ID), "name": im.Name, "regions": im.Regions, "created_at": im.Created, "resource_id": strconv.Itoa(im.Of),
		"resource_type": "droplet", "min_disk_size": im.MinDisk, "size_gigabytes": im.Size, "tags": orEmpty(im.Tags)}
}

func (s *Server) listSnapshots(r *request) (any, error) {
	kind := r.URL.Query().Get("resource_type")
	list := []object{}
	if kind != "volume" {
		list = append(list, wires(filter(s.images, func(im *image) bool { return im.Of != 0 && im.Type == "snapshot" }), snapshotWire)...)
	}
	if kind != "droplet" {
		list = append(list, wires(s.snapshots, (*volumeSnapshot).wire)...)
	}
	return page(s, r, "snapshots", list)
}

// snapshot finds a snapshot of a droplet (by a number) or of a volume (by a UUID).
func (s *Server) snapshot(id string) (*image, *volumeSnapshot, error) {
	if v, err := find(s.snapshots, func(v *volumeSnapshot) bool { return v.ID == id }); err == nil {
		return nil, v, nil
	}
	im, err := find(s.images, func(im *image) bool { return im.Of != 0 && strconv.Itoa(im.ID) == id })
	return im, nil, err
}

func (s *Server) getSnapshot(r *request) (any, error) {
	im, v, err := s.snapshot(r.PathValue("snapshot"))
	switch {
	case err != nil:
		return nil, err
	case v != nil:
		return object{"snapshot": v.wire()}, nil
	}
	return object{"snapshot": snapshotWire(im)}, nil
}

func (s *Server) deleteSnapshot(r *request) (any, error) {
	im, v, err := s.snapshot(r.PathValue("snapshot"))
	if err != nil {
		return nil, err
	}
	s.snapshots = filter(s.snapshots, func(o *volumeSnapshot) bool { return o != v })
	if im != nil {
		s.dropImage(im)
	}
	return nil, nil
}

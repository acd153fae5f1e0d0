package api

import (
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/storage"
	"github.com/opencontainers/go-digest"

	img "github.com/getberth/berth/engine/image"
)

func imageList(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	if pattern := c.get("filter"); c.v < 25 && pattern != "" && !filters.Has("reference") {
		filters.Add("reference", pattern)
	}
	o := img.ListOptions{All: c.flag("all"), Filters: filters}
	o.SharedSize = c.v >= 42 && c.flag("shared-size")
	o.Manifests = c.v >= 47 && c.flag("manifests")
	if c.v >= 54 && c.flag("identity") && !c.flag("manifests") {
		return invalid("identity requires manifests=1")
	}
	images, err := c.Images.List(c.ctx(), o)
	if c.v < 51 {
		for i := range images {
			images[i].Containers = -1
		}
	}
	return reply(c, http.StatusOK, c.trimImages(images), err)
}

// trimImage is an image of a list as the client's API version has it.
func (c *call) trimImage(i image.Summary) any {
	i.RepoTags, i.RepoDigests, i.Labels = list(i.RepoTags), list(i.RepoDigests), dict(i.Labels)
	if c.v < 43 && len(i.RepoTags) == 0 && len(i.RepoDigests) == 0 {
		i.RepoTags, i.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if c.v < 48 {
		i.Descriptor = nil
	}
	if c.v < 44 {
		return withFields(i, map[string]any{"VirtualSize": i.Size})
	}
	return i
}

func imageInspect(c *call) error {
	platform, err := c.platform("platform")
	if err != nil {
		return err
	}
	if c.v < 49 {
		platform = nil
	}
	i, err := c.Images.Inspect(c.ctx(), c.vars["name"], platform)
	if err != nil {
		return err
	}
	i.RepoTags, i.RepoDigests = list(i.RepoTags), list(i.RepoDigests)
	if !c.flag("manifests") || c.v < 48 {
		i.Manifests = nil
	}
	return c.json(http.StatusOK, withFields(i, c.legacyImage(&i)))
}

// legacyImage takes from and adds to what inspect shows for clients of older API versions.
func (c *call) legacyImage(i *image.InspectResponse) map[string]any {
	extra := map[string]any{}
	if c.v < 53 {
		i.Identity = nil
	}
	if c.v < 52 {
		extra["Parent"], extra["Comment"], extra["DockerVersion"], extra["Author"] = "", i.Comment, "", i.Author
		if i.GraphDriver == nil {
			i.GraphDriver = &storage.DriverData{Name: "overlayfs"}
		}
	}
	if c.v < 48 {
		i.Descriptor = nil
	}
	if c.v < 45 {
		extra["Container"], extra["ContainerConfig"] = "", nil
	}
	if c.v < 44 {
		extra["VirtualSize"] = i.Size
		if i.Created == "" {
			i.Created = "0001-01-01T00:00:00Z"
		}
	}
	return extra
}

func imageHistory(c *call) error {
	platform, err := c.platform("platform")
	if err != nil {
		return err
	}
	if c.v < 48 {
		platform = nil
	}
	items, err := c.Images.History(c.ctx(), c.vars["name"], platform)
	return reply(c, http.StatusOK, list(items), err)
}

// imageCreate pulls an image, or makes one of a tar.
func imageCreate(c *call) error {
	if c.get("fromImage") != "" {
		return imagePull(c)
	}
	return imageImport(c)
}

func imagePull(c *call) error {
	ref, err := pullReference(c.get("fromImage"), c.get("tag"))
	if err != nil {
		return err
	}
	platform, err := c.platform("platform")
	if err != nil {
		return err
	}
	out := progress{c}
	return out.finish(c.Images.Pull(c.ctx(), ref, platform, c.registryAuth(), out.send))
}

// pullReference is the image that a pull names. What is called a tag may be a digest. Without either the name stays without: all
// of a repository's tags, which SDKs ask for by "name:" too.
func pullReference(name, tag string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(strings.TrimSuffix(name, ":"))
	if err != nil {
		return "", invalid("%v", err)
	}
	if d, derr := digest.Parse(tag); derr == nil {
		ref, err = reference.WithDigest(reference.TrimNamed(ref), d)
	} else if tag != "" {
		ref, err = reference.WithTag(ref, tag)
	}
	if err != nil {
		return "", invalid("%v", err)
	}
	if reference.FamiliarName(ref) == "scratch" {
		return "", invalid("'scratch' is a reserved name")
	}
	return ref.String(), nil
}

// registryAuth is what a client knows of a registry's account. One that cannot be read is none, as Docker has it: clients send
// all sorts of things when they have none.
func (c *call) registryAuth() *registry.AuthConfig {
	auth, err := authconfig.Decode(c.r.Header.Get(registry.AuthHeader))
	if err != nil || *auth == (registry.AuthConfig{}) {
		return nil
	}
	return auth
}

func imageImport(c *call) error {
	source := c.get("fromSrc")
	if source == "" {
		return invalid("either fromImage or fromSrc is required")
	}
	ref, err := repoTag(c.get("repo"), c.get("tag"))
	if err != nil {
		return err
	}
	platform, err := c.platform("platform")
	if err != nil {
		return err
	}
	comment := c.get("message")
	if comment == "" {
		comment = "Imported from " + source
	}
	out, tar := progress{c}, c.r.Body
	if source != "-" {
		if tar, err = c.Images.Download(c.ctx(), source); err != nil {
			return err
		}
		defer tar.Close()
		if err := out.send(jsonstream.Message{Status: "Downloading from " + source}); err != nil {
			return err
		}
	}
	id, err := c.Images.Import(c.ctx(), tar, ref, comment, c.query["changes"], platform)
	if err == nil {
		err = out.send(jsonstream.Message{Status: id})
	}
	return out.finish(err)
}

func imageLoad(c *call) error {
	only, err := c.platforms("platform", 48)
	if err != nil {
		return err
	}
	out := progress{c}
	return out.finish(c.Images.Load(c.ctx(), c.r.Body, only, out.send))
}

// imageSave writes a tar of images. When it fails half-way the connection is cut, so that no one takes it for whole.
func imageSave(c *call) error {
	refs := c.query["names"]
	if name, ok := c.vars["name"]; ok {
		refs = []string{name}
	}
	if len(refs) == 0 {
		return invalid("no image names were given")
	}
	only, err := c.platforms("platform", 48)
	if err != nil {
		return err
	}
	return c.Images.Save(c.ctx(), refs, only, lazyBody{c, "application/x-tar"})
}

func imagePush(c *call) error {
	ref, err := reference.ParseNormalizedNamed(c.vars["name"])
	if err != nil {
		return invalid("%v", err)
	}
	name := reference.FamiliarString(ref)
	if tag := c.get("tag"); tag != "" {
		if name, err = repoTag(name, tag); err != nil {
			return err
		}
	}
	platform, err := c.platform("platform")
	if err != nil {
		return err
	}
	if c.v < 46 {
		platform = nil
	}
	out := progress{c}
	return out.finish(c.Images.Push(c.ctx(), name, platform, c.registryAuth(), out.send))
}

func imageTag(c *call) error {
	target, err := repoTag(c.get("repo"), c.get("tag"))
	if err != nil {
		return err
	}
	if target == "" {
		return invalid("invalid reference format")
	}
	if strings.HasPrefix(target, string(digest.Canonical)+":") {
		return invalid("refusing to create an ambiguous tag using digest algorithm as name")
	}
	return c.done(http.StatusCreated, c.Images.Tag(c.act(), c.vars["name"], target))
}

func imageRemove(c *call) error {
	only, err := c.platforms("platforms", 50)
	if err != nil {
		return err
	}
	items, err := c.Images.Remove(c.act(), c.vars["name"], img.RemoveOptions{Force: c.flag("force"), Platforms: only})
	return reply(c, http.StatusOK, list(items), err)
}

func imagePrune(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	report, err := c.Images.Prune(c.act(), filters)
	report.ImagesDeleted = list(report.ImagesDeleted)
	return reply(c, http.StatusOK, report, err)
}

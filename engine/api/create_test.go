package api

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type platform = ocispec.Platform

// created returns what the service is asked to create.
func created(t *testing.T, path, body string) (req container.CreateRequest, p *platform, status int, answer string) {
	t.Helper()
	e := newEngine(t)
	e.containers.create = func(_ string, r container.CreateRequest, pl *platform) (container.CreateResponse, error) {
		req, p = r, pl
		return container.CreateResponse{ID: "1"}, nil
	}
	status, answer = e.do(t, "POST", path, body)
	return req, p, status, answer
}

func TestCreateCompletes(t *testing.T) {
	req, p, _, _ := created(t, "/containers/create?platform=linux/arm64", `{"Image":"a",
		"HostConfig":{"NetworkMode":"default","PortBindings":{"80/tcp":[]},"PidsLimit":-1},
		"NetworkingConfig":{"EndpointsConfig":{"default":null}}}`)
	if req.HostConfig.NetworkMode != "bridge" || req.NetworkingConfig.EndpointsConfig["bridge"] == nil || len(req.NetworkingConfig.EndpointsConfig) != 1 {
		t.Errorf("network: %v %v", req.HostConfig.NetworkMode, req.NetworkingConfig.EndpointsConfig)
	}
	if req.HostConfig.PidsLimit != nil {
		t.Error("-1 processes")
	}
	for _, bindings := range req.HostConfig.PortBindings {
		if len(bindings) != 1 {
			t.Errorf("ports: %v", req.HostConfig.PortBindings)
		}
	}
	if p == nil || p.Architecture != "arm64" {
		t.Errorf("platform: %v", p)
	}
	req, _, _, _ = created(t, "/containers/create", `{"Image":"a"}`)
	if req.HostConfig == nil || req.HostConfig.NetworkMode != "bridge" {
		t.Errorf("got %+v", req.HostConfig)
	}
}

func TestCreateOfOldVersions(t *testing.T) {
	mac := `{"Image":"a","MacAddress":"02:00:00:00:00:01"}`
	req, _, _, answer := created(t, "/v1.43/containers/create", mac)
	if got := req.NetworkingConfig.EndpointsConfig["bridge"]; got == nil || got.MacAddress.String() != "02:00:00:00:00:01" || !strings.Contains(answer, `"Warnings":[]`) {
		t.Errorf("1.43: %v %s", got, answer)
	}
	if _, _, _, answer = created(t, "/v1.44/containers/create", mac); !strings.Contains(answer, "now deprecated") {
		t.Errorf("1.44: %s", answer)
	}
	if _, _, status, _ := created(t, "/v1.52/containers/create", mac); status != 400 {
		t.Errorf("1.52: %d", status)
	}
	if req, _, _, _ = created(t, "/v1.39/containers/create", `{"Image":"a"}`); req.HostConfig.IpcMode != "shareable" {
		t.Errorf("1.39: %v", req.HostConfig.IpcMode)
	}
	bind := `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"TmpfsOptions":{}}]}}`
	if req, _, _, _ = created(t, "/v1.41/containers/create", bind); req.HostConfig.Mounts[0].TmpfsOptions != nil || !req.HostConfig.Mounts[0].BindOptions.ReadOnlyNonRecursive {
		t.Errorf("1.41: %+v", req.HostConfig.Mounts)
	}
	if _, _, status, answer := created(t, "/v1.45/containers/create", bind); status != 400 || !strings.Contains(answer, "TmpfsOptions") {
		t.Errorf("1.45: %d %s", status, answer)
	}
	two := `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"n1":{},"n2":{}}}}`
	if _, _, status, answer := created(t, "/v1.43/containers/create", two); status != 400 || !strings.Contains(answer, "multiple network endpoints: n1, n2") {
		t.Errorf("1.43: %d %s", status, answer)
	}
	if _, _, status, _ := created(t, "/v1.44/containers/create", two); status != 201 {
		t.Errorf("1.44: %d", status)
	}
}

func FuzzCreate(f *testing.F) {
	f.Add(`{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind"}],"PortBindings":{"80/tcp":null}},"MacAddress":"02:00:00:00:00:01"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var body createBody
		if body.UnmarshalJSON([]byte(text)) != nil || body.Config == nil {
			return
		}
		for _, v := range []version{oldest, 40, 41, 43, 44, 47, newest} {
			req := body.CreateRequest
			complete(&req)
			c := &call{v: v}
			_, _ = c.adaptCreate(&req, &body)
		}
	})
}

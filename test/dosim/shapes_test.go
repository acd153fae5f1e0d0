package dosim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/godo"

	"github.com/getberth/berth/test/dosim"
)

// raw asks the API as godo does not, which reads past what it does not expect.
func raw(t *testing.T, s *dosim.Server, method, path, token, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, b)
	}
	return res.StatusCode, v
}

// shape names a JSON value's type as the API's description does, an object's by its fields.
func shape(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		if _, err := x.Int64(); err == nil {
			return "integer"
		}
		return "number"
	case string:
		if _, err := time.Parse(time.RFC3339, x); err == nil {
			return "date-time"
		}
		return "string"
	case []any:
		if len(x) == 0 {
			return "[]"
		}
		return "[" + shape(x[0]) + "]"
	case map[string]any:
		var fields []string
		for _, name := range slices.Sorted(maps.Keys(x)) {
			fields = append(fields, name+":"+shape(x[name]))
		}
		return "{" + strings.Join(fields, " ") + "}"
	}
	return fmt.Sprintf("%T", v)
}

const regionShape = "{available:boolean features:[string] name:string sizes:[string] slug:string}"

// TestFieldTypes compares what the simulator answers with DigitalOcean's OpenAPI description. The fields that are named must be there,
// of that type; the droplet has all that it can have.
func TestFieldTypes(t *testing.T) {
	s, c := start(t, dosim.Options{})
	ctx := t.Context()
	_, line := newKey(t)
	must(c.Keys.Create(ctx, &godo.KeyCreateRequest{Name: "k", PublicKey: line}))(t)
	v := must(c.Storage.CreateVolume(ctx, &godo.VolumeCreateRequest{Name: "data", Region: "nyc3", SizeGigaBytes: 10, FilesystemType: "ext4", FilesystemLabel: "d", Tags: []string{"a"}}))(t)
	r := request("web1")
	r.Tags, r.Backups, r.IPv6, r.Volumes = []string{"a"}, true, true, []godo.DropletCreateVolume{{ID: v.ID}}
	d := active(t, c, must(c.Droplets.Create(ctx, r))(t).ID)
	must(c.DropletActions.Snapshot(ctx, d.ID, "s1"))(t)
	wait(t, "the snapshot is there", func() bool { return len(must(c.Images.ListUser(ctx, nil))(t)) == 1 })
	must(c.Storage.CreateSnapshot(ctx, &godo.SnapshotCreateRequest{VolumeID: v.ID, Name: "s2"}))(t)
	must(c.ReservedIPs.Create(ctx, &godo.ReservedIPCreateRequest{DropletID: d.ID}))(t)
	in := []godo.InboundRule{{Protocol: "tcp", PortRange: "22", Sources: &godo.Sources{Addresses: []string{"0.0.0.0/0"}}}}
	must(c.Firewalls.Create(ctx, &godo.FirewallRequest{Name: "fw", InboundRules: in, DropletIDs: []int{d.ID}, Tags: []string{"a"}}))(t)
	for _, x := range []struct {
		path, list string
		fields     map[string]string
	}{
		{"/v2/account", "account", map[string]string{"droplet_limit": "integer", "email": "string", "email_verified": "boolean", "uuid": "string", "status": "string", "status_message": "string"}},
		{"/v2/account/keys", "ssh_keys", map[string]string{"id": "integer", "fingerprint": "string", "public_key": "string", "name": "string"}},
		{"/v2/regions", "regions", map[string]string{"slug": "string", "name": "string", "available": "boolean", "features": "[string]", "sizes": "[string]"}},
		{"/v2/sizes", "sizes", map[string]string{"slug": "string", "memory": "integer", "vcpus": "integer", "disk": "integer", "transfer": "number", "price_monthly": "number",
			"price_hourly": "number", "regions": "[string]", "available": "boolean", "description": "string"}},
		{"/v2/images?type=distribution", "images", map[string]string{"id": "integer", "name": "string", "type": "string", "distribution": "string", "slug": "string", "public": "boolean",
			"regions": "[string]", "created_at": "date-time", "min_disk_size": "integer", "size_gigabytes": "number", "status": "string"}},
		{"/v2/images?private=true", "images", map[string]string{"id": "integer", "slug": "null", "public": "boolean", "min_disk_size": "integer"}},
		{"/v2/droplets", "droplets", map[string]string{"id": "integer", "name": "string", "memory": "integer", "vcpus": "integer", "disk": "integer", "locked": "boolean", "status": "string",
			"kernel": "null", "created_at": "date-time", "features": "[string]", "backup_ids": "[]", "next_backup_window": "{end:date-time start:date-time}", "snapshot_ids": "[integer]",
			"volume_ids": "[string]", "size_slug": "string", "tags": "[string]", "vpc_uuid": "string", "region": regionShape,
			"networks": "{v4:[{gateway:string ip_address:string netmask:string type:string}] v6:[{gateway:string ip_address:string netmask:integer type:string}]}"}},
		{"/v2/actions", "actions", map[string]string{"id": "integer", "status": "string", "type": "string", "started_at": "date-time", "completed_at": "date-time", "resource_id": "integer",
			"resource_type": "string", "region": regionShape, "region_slug": "string"}},
		{"/v2/vpcs", "vpcs", map[string]string{"id": "string", "urn": "string", "name": "string", "description": "string", "region": "string", "ip_range": "string", "created_at": "date-time", "default": "boolean"}},
		{"/v2/firewalls", "firewalls", map[string]string{"id": "string", "status": "string", "created_at": "date-time", "pending_changes": "[]", "name": "string", "droplet_ids": "[integer]",
			"tags": "[string]", "inbound_rules": "[{ports:string protocol:string sources:{addresses:[string]}}]"}},
		{"/v2/projects", "projects", map[string]string{"id": "string", "owner_uuid": "string", "owner_id": "integer", "name": "string", "description": "string", "purpose": "string",
			"environment": "string", "is_default": "boolean", "created_at": "date-time", "updated_at": "date-time"}},
		{"/v2/reserved_ips", "reserved_ips", map[string]string{"ip": "string", "region": regionShape, "locked": "boolean"}},
		{"/v2/volumes", "volumes", map[string]string{"id": "string", "region": regionShape, "droplet_ids": "[integer]", "name": "string", "description": "string", "size_gigabytes": "integer",
			"created_at": "date-time", "filesystem_type": "string", "filesystem_label": "string", "tags": "[string]"}},
		{"/v2/snapshots?resource_type=volume", "snapshots", map[string]string{"id": "string", "name": "string", "created_at": "date-time", "regions": "[string]", "resource_id": "string",
			"resource_type": "string", "min_disk_size": "integer", "size_gigabytes": "number", "tags": "[]"}},
		{"/v2/snapshots?resource_type=droplet", "snapshots", map[string]string{"id": "string", "resource_id": "string", "resource_type": "string"}},
	} {
		status, body := raw(t, s, http.MethodGet, x.path, s.Token, "")
		object, _ := body[x.list].(map[string]any)
		if list, ok := body[x.list].([]any); ok && len(list) > 0 {
			object, _ = list[0].(map[string]any)
			if shape(body["meta"]) != "{total:integer}" || !strings.HasPrefix(shape(body["links"]), "{") {
				t.Errorf("%s: meta is %s, links %s", x.path, shape(body["meta"]), shape(body["links"]))
			}
		}
		if status != http.StatusOK || object == nil {
			t.Errorf("%s: %d with %s", x.path, status, shape(body))
			continue
		}
		for name, want := range x.fields {
			got := shape(object[name])
			if whole := want == "number" && got == "integer"; got != want && !whole { // 6.00 may be written as 6
				t.Errorf("%s: %s is %s, not %s", x.path, name, got, want)
			}
		}
	}
}

// TestErrorBodies: all errors have the fields of DigitalOcean's, with its ids.
func TestErrorBodies(t *testing.T) {
	s, _ := start(t, dosim.Options{PerMinute: 5, Tokens: map[string][]string{"reader": {"account:read"}}})
	for _, x := range []struct {
		method, path, token, body string
		status                    int
		id                        string
	}{
		{"GET", "/v2/account", "wrong", "", 401, "unauthorized"},
		{"GET", "/v2/droplets", "reader", "", 403, "forbidden"},
		{"GET", "/v2/droplets/1", s.Token, "", 404, "not_found"},
		{"GET", "/v2/nothing", s.Token, "", 404, "not_found"},
		{"POST", "/v2/droplets", s.Token, `{"name":"a"}`, 422, "unprocessable_entity"},
		{"POST", "/v2/droplets", s.Token, `{`, 400, "bad_request"},
		{"GET", "/v2/droplets?per_page=201", s.Token, "", 422, "unprocessable_entity"},
		{"GET", "/v2/account", s.Token, "", 429, "too_many_requests"},
	} {
		status, body := raw(t, s, x.method, x.path, x.token, x.body)
		if status != x.status || body["id"] != x.id || shape(body) != "{id:string message:string request_id:string}" || body["message"] == "" {
			t.Errorf("%s %s: %d %v, want %d %s", x.method, x.path, status, body, x.status, x.id)
		}
	}
}

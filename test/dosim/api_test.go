package dosim_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/test/dosim"
)

func start(t *testing.T, o dosim.Options) (*dosim.Server, *godo.Client) {
	t.Helper()
	s, err := dosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, client(t, s, s.Token)
}

func client(t *testing.T, s *dosim.Server, token string) *godo.Client {
	t.Helper()
	c, err := godo.New(&http.Client{Transport: bearer(token)}, godo.SetBaseURL(s.URL+"/"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func request(name string) *godo.DropletCreateRequest {
	return &godo.DropletCreateRequest{Name: name, Region: "nyc3", Size: "s-1vcpu-1gb", Image: godo.DropletCreateImage{Slug: "debian-12-x64"}}
}

func status(err error) int {
	var e *godo.ErrorResponse
	if errors.As(err, &e) {
		return e.Response.StatusCode
	}
	return 0
}

// must returns what a call of godo's returns, less what a test does not look at.
func must[T any](v T, _ *godo.Response, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func active(t *testing.T, c *godo.Client, id int) *godo.Droplet {
	t.Helper()
	var d *godo.Droplet
	wait(t, "the droplet is active", func() bool {
		d = must(c.Droplets.Get(t.Context(), id))(t)
		return d.Status == "active" && !d.Locked
	})
	return d
}

func TestDropletLivesAndDies(t *testing.T) {
	_, c := start(t, dosim.Options{ActiveAfter: 50 * time.Millisecond})
	ctx := t.Context()
	r := request("web1")
	r.Tags = []string{"berth", "berth:create:1"}
	r.Backups, r.IPv6, r.Monitoring = true, true, true
	d, resp, err := c.Droplets.Create(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if d.Status != "new" || !d.Locked || len(d.Networks.V4) != 0 || resp.StatusCode != http.StatusAccepted {
		t.Errorf("a new droplet is %q, locked %v, with addresses %v, after %d", d.Status, d.Locked, d.Networks.V4, resp.StatusCode)
	}
	if len(resp.Links.Actions) != 1 || resp.Links.Actions[0].Rel != "create" {
		t.Errorf("links of the answer are %v", resp.Links)
	}
	a := active(t, c, d.ID)
	public, _ := a.PublicIPv4()
	private, _ := a.PrivateIPv4()
	v6, _ := a.PublicIPv6()
	for _, addr := range []string{public, private, v6} {
		if _, err := netip.ParseAddr(addr); err != nil {
			t.Errorf("address: %v", err)
		}
	}
	if a.Image.Slug != "debian-12-x64" || a.Region.Slug != "nyc3" || a.SizeSlug != "s-1vcpu-1gb" || a.VPCUUID == "" || a.NextBackupWindow == nil {
		t.Errorf("got %v", a)
	}
	wait(t, "its creation is completed", func() bool {
		return must(c.Actions.Get(ctx, resp.Links.Actions[0].ID))(t).Status == godo.ActionCompleted
	})
	for _, list := range [][]godo.Droplet{
		must(c.Droplets.ListByTag(ctx, "berth:create:1", nil))(t), must(c.Droplets.ListByName(ctx, "WEB1", nil))(t), must(c.Droplets.List(ctx, nil))(t),
	} {
		if len(list) != 1 || list[0].ID != d.ID {
			t.Errorf("listed %v", list)
		}
	}
	if tag := must(c.Tags.Get(ctx, "berth"))(t); tag.Resources.Droplets.Count != 1 {
		t.Errorf("tag has %v", tag)
	}
	if _, err := c.Droplets.Delete(ctx, d.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Droplets.Delete(ctx, d.ID); status(err) != http.StatusNotFound {
		t.Errorf("removing it again: %v", err)
	}
}

func TestActions(t *testing.T) {
	_, c := start(t, dosim.Options{ActionAfter: 20 * time.Millisecond})
	ctx := t.Context()
	d := active(t, c, must(c.Droplets.Create(ctx, request("web1")))(t).ID)
	steps := []struct {
		name   string
		act    func() (*godo.Action, *godo.Response, error)
		status string
		check  func(*godo.Droplet) bool
	}{
		{"power_on of one that is on", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.PowerOn(ctx, d.ID) }, "refused", nil},
		{"resize of one that is on", func() (*godo.Action, *godo.Response, error) {
			return c.DropletActions.Resize(ctx, d.ID, "s-2vcpu-4gb", true)
		}, "refused", nil},
		{"reboot", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.Reboot(ctx, d.ID) }, "", nil},
		{"shutdown", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.Shutdown(ctx, d.ID) }, "", func(d *godo.Droplet) bool { return d.Status == "off" }},
		{"shutdown of one that is off", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.Shutdown(ctx, d.ID) }, "refused", nil},
		{"resize", func() (*godo.Action, *godo.Response, error) {
			return c.DropletActions.Resize(ctx, d.ID, "s-2vcpu-4gb", false)
		}, "", func(d *godo.Droplet) bool { return d.SizeSlug == "s-2vcpu-4gb" && d.Disk == 25 }},
		{"power_on", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.PowerOn(ctx, d.ID) }, "", func(d *godo.Droplet) bool { return d.Status == "active" }},
		{"rename", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.Rename(ctx, d.ID, "web2") }, "", func(d *godo.Droplet) bool { return d.Name == "web2" }},
		{"rename to what is no name", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.Rename(ctx, d.ID, "web 2") }, "refused", nil},
		{"snapshot", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.Snapshot(ctx, d.ID, "s1") }, "", func(d *godo.Droplet) bool { return len(d.SnapshotIDs) == 1 }},
		{"enable_backups", func() (*godo.Action, *godo.Response, error) {
			return c.DropletActions.EnableBackupsWithPolicy(ctx, d.ID, &godo.DropletBackupPolicyRequest{Plan: "weekly", Weekday: "SUN", Hour: godo.PtrTo(8)})
		}, "", func(d *godo.Droplet) bool { return d.NextBackupWindow != nil }},
		{"disable_backups", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.DisableBackups(ctx, d.ID) }, "", func(d *godo.Droplet) bool { return d.NextBackupWindow == nil }},
		{"power_off", func() (*godo.Action, *godo.Response, error) { return c.DropletActions.PowerOff(ctx, d.ID) }, "", func(d *godo.Droplet) bool { return d.Status == "off" }},
	}
	for _, s := range steps {
		a, _, err := s.act()
		if s.status == "refused" {
			if status(err) != http.StatusUnprocessableEntity {
				t.Errorf("%s: %v", s.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if a.Status != godo.ActionInProgress {
			t.Errorf("%s: action is %s", s.name, a.Status)
		}
		wait(t, s.name+" is completed", func() bool { return must(c.DropletActions.Get(ctx, d.ID, a.ID))(t).Status == godo.ActionCompleted })
		if got := must(c.Droplets.Get(ctx, d.ID))(t); s.check != nil && !s.check(got) {
			t.Errorf("%s: droplet is %v", s.name, got)
		}
	}
	restored := request("web3")
	restored.Image = godo.DropletCreateImage{ID: must(c.Images.ListUser(ctx, nil))(t)[0].ID}
	if _, _, err := c.Droplets.Create(ctx, restored); err != nil {
		t.Errorf("a droplet of a snapshot: %v", err)
	}
}

func TestOneActionAtATime(t *testing.T) {
	_, c := start(t, dosim.Options{ActionAfter: time.Hour})
	d := active(t, c, must(c.Droplets.Create(t.Context(), request("web1")))(t).ID)
	must(c.DropletActions.Reboot(t.Context(), d.ID))(t)
	if _, _, err := c.DropletActions.Rename(t.Context(), d.ID, "other"); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("an action during another: %v", err)
	}
}

func TestRefusedDroplets(t *testing.T) {
	_, c := start(t, dosim.Options{DropletLimit: 1})
	for name, change := range map[string]func(*godo.DropletCreateRequest){
		"region":               func(r *godo.DropletCreateRequest) { r.Region = "mars1" },
		"region without space": func(r *godo.DropletCreateRequest) { r.Region = "nyc2" },
		"size":                 func(r *godo.DropletCreateRequest) { r.Size = "s-0vcpu" },
		"size not sold there":  func(r *godo.DropletCreateRequest) { r.Size = "m-2vcpu-16gb"; r.Region = "ams3" },
		"size no longer sold":  func(r *godo.DropletCreateRequest) { r.Size = "1gb" },
		"image":                func(r *godo.DropletCreateRequest) { r.Image = godo.DropletCreateImage{Slug: "debian-1-x64"} },
		"numeric image":        func(r *godo.DropletCreateRequest) { r.Image = godo.DropletCreateImage{ID: 1} },
		"image too large":      func(r *godo.DropletCreateRequest) { r.Image.Slug = "docker-20-04"; r.Size = "s-1vcpu-512mb-10gb" },
		"key":                  func(r *godo.DropletCreateRequest) { r.SSHKeys = []godo.DropletCreateSSHKey{{ID: 1}} },
		"name":                 func(r *godo.DropletCreateRequest) { r.Name = "web_1" },
		"tag":                  func(r *godo.DropletCreateRequest) { r.Tags = []string{"a b"} },
		"VPC":                  func(r *godo.DropletCreateRequest) { r.VPCUUID = "5a4981aa-9653-4bd1-bef5-d6bff52042e4" },
		"volume":               func(r *godo.DropletCreateRequest) { r.Volumes = []godo.DropletCreateVolume{{ID: "nope"}} },
		"long user-data":       func(r *godo.DropletCreateRequest) { r.UserData = strings.Repeat("x", 64<<10+1) },
		"backup policy":        func(r *godo.DropletCreateRequest) { r.BackupPolicy = &godo.DropletBackupPolicyRequest{Plan: "daily"} },
	} {
		r := request("web1")
		change(r)
		if _, _, err := c.Droplets.Create(t.Context(), r); status(err) != http.StatusUnprocessableEntity {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := c.Droplets.CreateMultiple(t.Context(), &godo.DropletMultiCreateRequest{Names: []string{"a", "b"}, Region: "nyc3", Size: "s-1vcpu-1gb",
		Image: godo.DropletCreateImage{Slug: "debian-12-x64"}}); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("over the limit: %v", err)
	}
	if list := must(c.Droplets.List(t.Context(), nil))(t); len(list) != 0 {
		t.Errorf("refused requests made %v", list)
	}
}

func TestPages(t *testing.T) {
	_, c := start(t, dosim.Options{})
	ctx := t.Context()
	for i := range 3 {
		names := make([]string, 10)
		for j := range names {
			names[j] = fmt.Sprintf("web-%d-%d", i, j)
		}
		got := must(c.Droplets.CreateMultiple(ctx, &godo.DropletMultiCreateRequest{Names: names, Region: "nyc", Size: "s-1vcpu-1gb",
			Image: godo.DropletCreateImage{Slug: "debian-12-x64"}, Tags: []string{"many"}}))(t)
		if len(got) != 10 {
			t.Fatalf("made %d", len(got))
		}
	}
	seen := map[int]bool{}
	opt := &godo.ListOptions{PerPage: 7}
	for pages := 1; ; pages++ {
		list, resp, err := c.Droplets.ListByTag(ctx, "many", opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			seen[d.ID] = true
		}
		if resp.Meta.Total != 30 {
			t.Errorf("total is %d", resp.Meta.Total)
		}
		if resp.Links.IsLastPage() {
			if pages != 5 {
				t.Errorf("it took %d pages", pages)
			}
			break
		}
		page, err := resp.Links.CurrentPage()
		if err != nil {
			t.Fatal(err)
		}
		opt.Page = page + 1
	}
	if len(seen) != 30 {
		t.Errorf("saw %d droplets", len(seen))
	}
	if list := must(c.Droplets.List(ctx, nil))(t); len(list) != 20 {
		t.Errorf("a page has %d droplets", len(list))
	}
	if _, err := c.Droplets.DeleteByTag(ctx, "many"); err != nil {
		t.Error(err)
	}
	if _, err := c.Droplets.DeleteByTag(ctx, "none"); status(err) != http.StatusNotFound {
		t.Errorf("removing by an unknown tag: %v", err)
	}
	if list := must(c.Droplets.List(ctx, nil))(t); len(list) != 0 {
		t.Errorf("left are %d", len(list))
	}
}

func TestTokens(t *testing.T) {
	s, c := start(t, dosim.Options{Tokens: map[string][]string{"reader": {"droplet:read", "account:*"}}})
	ctx := t.Context()
	if _, _, err := client(t, s, "wrong").Account.Get(ctx); status(err) != http.StatusUnauthorized {
		t.Errorf("a wrong token: %v", err)
	}
	reader := client(t, s, "reader")
	must(reader.Account.Get(ctx))(t)
	must(reader.Droplets.List(ctx, nil))(t)
	if _, _, err := reader.Droplets.Create(ctx, request("web1")); status(err) != http.StatusForbidden {
		t.Errorf("creating with a token that may read: %v", err)
	}
	r := request("web1")
	r.Tags = []string{"new"}
	if _, _, err := client(t, s, s.AddToken("droplet:create")).Droplets.Create(ctx, r); status(err) != http.StatusForbidden {
		t.Errorf("tagging with a token that may not: %v", err)
	}
	if list := must(c.Droplets.List(ctx, nil))(t); len(list) != 0 {
		t.Errorf("refused requests made %v", list)
	}
	resp, err := http.Get(s.URL + "/v2/droplets")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ ID, Message, RequestID string }
	b, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(b, &body); err != nil || body.ID != "unauthorized" || body.Message == "" || !strings.Contains(string(b), "request_id") {
		t.Errorf("without a token: %s", b)
	}
}

func TestLimits(t *testing.T) {
	_, c := start(t, dosim.Options{PerMinute: 3})
	var resp *godo.Response
	var err error
	for range 3 {
		if _, resp, err = c.Account.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if resp.Rate.Limit != 5000 || resp.Rate.Remaining != 4997 || time.Until(resp.Rate.Reset.Time) < 59*time.Minute {
		t.Errorf("rate is %v", resp.Rate)
	}
	_, resp, err = c.Account.Get(t.Context())
	if status(err) != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %v, headers %v", err, resp.Header)
	}
}

func TestFaults(t *testing.T) {
	s, c := start(t, dosim.Options{})
	ctx := t.Context()
	s.Inject(dosim.Fault{Method: "POST", Path: "/v2/droplets", LoseAnswer: true})
	if _, _, err := c.Droplets.Create(ctx, request("lost")); err == nil || status(err) != 0 {
		t.Errorf("a lost answer: %v", err)
	}
	if list := must(c.Droplets.ListByName(ctx, "lost", nil))(t); len(list) != 1 {
		t.Errorf("a lost answer's droplets: %v", list)
	}
	s.Inject(dosim.Fault{Status: 503, Times: 2})
	for range 2 {
		if _, _, err := c.Droplets.Create(ctx, request("refused")); status(err) != http.StatusServiceUnavailable {
			t.Errorf("a failure: %v", err)
		}
	}
	s.Inject(dosim.Fault{Status: 429, RetryAfter: 2, Path: "/v2/droplets/*"})
	id := must(c.Droplets.List(ctx, nil))(t)[0].ID
	if _, resp, err := c.Droplets.Get(ctx, id); status(err) != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("an injected limit: %v", err)
	}
	s.InjectBoot(dosim.Boot{Never: true})
	stuck := must(c.Droplets.Create(ctx, request("stuck")))(t)
	fine := must(c.Droplets.Create(ctx, request("fine")))(t)
	active(t, c, fine.ID)
	if d := must(c.Droplets.Get(ctx, stuck.ID))(t); d.Status != "new" {
		t.Errorf("a droplet that never boots is %s", d.Status)
	}
	if !s.Vanish(stuck.ID) {
		t.Error("it cannot vanish")
	}
	if _, _, err := c.Droplets.Get(ctx, stuck.ID); status(err) != http.StatusNotFound {
		t.Errorf("a droplet that vanished: %v", err)
	}
	lost := 0
	for _, call := range s.Calls() {
		if call.Lost {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("the log has %d lost answers", lost)
	}
}

func TestControlAPI(t *testing.T) {
	s, c := start(t, dosim.Options{})
	post := func(path, body string) int {
		resp, err := http.Post(s.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := post("/dosim/faults", `{"method":"GET","path":"/v2/account","status":500,"delay":"1ms"}`); got != http.StatusNoContent {
		t.Errorf("a fault: %d", got)
	}
	if got := post("/dosim/faults", `{"metod":"GET"}`); got != http.StatusBadRequest {
		t.Errorf("a fault with a wrong field: %d", got)
	}
	if got := post("/dosim/boots", `{"delay":"1ms"}`); got != http.StatusNoContent {
		t.Errorf("a boot: %d", got)
	}
	if _, _, err := c.Account.Get(t.Context()); status(err) != http.StatusInternalServerError {
		t.Errorf("a failure: %v", err)
	}
	must(c.Account.Get(t.Context()))(t)
}

func TestParallelCreates(t *testing.T) {
	s, c := start(t, dosim.Options{ActiveAfter: 30 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			d, _, err := c.Droplets.Create(t.Context(), request(fmt.Sprintf("web%d", i)))
			if err != nil {
				t.Error(err)
				return
			}
			for d.Status != "active" && err == nil {
				time.Sleep(20 * time.Millisecond)
				d, _, err = c.Droplets.Get(t.Context(), d.ID)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	addresses := map[string]bool{}
	for _, d := range must(c.Droplets.List(t.Context(), &godo.ListOptions{PerPage: 200}))(t) {
		public, _ := d.PublicIPv4()
		private, _ := d.PrivateIPv4()
		addresses[public], addresses[private] = true, true
	}
	if len(addresses) != 40 {
		t.Errorf("20 droplets have %d addresses", len(addresses))
	}
	if len(s.Calls()) < 41 {
		t.Errorf("%d calls are logged", len(s.Calls()))
	}
}

func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

func TestCloseEndsWhatNeverEnds(t *testing.T) {
	s, err := dosim.Start(context.Background(), dosim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, s, s.Token)
	s.InjectBoot(dosim.Boot{Never: true})
	must(c.Droplets.Create(t.Context(), request("stuck")))(t)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

package digitalocean

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
)

// Flags lists what can be set at creation. All but those for which docker-machine has no name are called as there.
func (d *Driver) Flags() []drivers.Flag {
	return []drivers.Flag{
		{Name: tokenFlag, Usage: "Token of the API; it is not recorded", EnvVar: "DIGITALOCEAN_ACCESS_TOKEN", Default: "", Secret: true, Account: true},
		{Name: tokenFlag + "-command", Usage: "Command that prints the token; it is recorded, and run when the token is needed", EnvVar: "DIGITALOCEAN_ACCESS_TOKEN_COMMAND", Default: "", Account: true},
		{Name: tokenFlag + "-keyring", Usage: "Item of the system's keyring that is the token, as SERVICE/ACCOUNT; it is recorded, and looked up when the token is needed", EnvVar: "DIGITALOCEAN_ACCESS_TOKEN_KEYRING", Default: "", Account: true},
		{Name: "digitalocean-api-url", Usage: "Where the API is, if not at DigitalOcean's", EnvVar: "DIGITALOCEAN_API_URL", Default: "", Account: true},
		{Name: "digitalocean-region", Usage: "Region", EnvVar: "DIGITALOCEAN_REGION", Default: "nyc3", Catalog: "regions"},
		{Name: "digitalocean-size", Usage: "Size", EnvVar: "DIGITALOCEAN_SIZE", Default: "s-1vcpu-1gb", Catalog: "sizes"},
		{Name: "digitalocean-image", Usage: "Image: its slug, or the number of a snapshot or an own image", EnvVar: "DIGITALOCEAN_IMAGE", Default: "debian-12-x64", Catalog: "images"},
		{Name: "digitalocean-ssh-user", Usage: "User of SSH", EnvVar: "DIGITALOCEAN_SSH_USER", Default: "root"},
		{Name: "digitalocean-ssh-port", Usage: "Port of SSH", EnvVar: "DIGITALOCEAN_SSH_PORT", Default: 22},
		{Name: "digitalocean-ssh-key-fingerprint", Usage: "Fingerprints of the account's SSH keys to let in, by commas (default: the machine's own key, which is added to the account)", EnvVar: "DIGITALOCEAN_SSH_KEY_FINGERPRINT", Default: ""},
		{Name: "digitalocean-ssh-key-path", Usage: "Private key of your own whose public half is let in too", EnvVar: "DIGITALOCEAN_SSH_KEY_PATH", Default: ""},
		{Name: "digitalocean-ipv6", Usage: "Give the droplet an IPv6 address", EnvVar: "DIGITALOCEAN_IPV6", Default: false},
		{Name: "digitalocean-private-networking", Usage: "Attach the droplet to the region's private network", EnvVar: "DIGITALOCEAN_PRIVATE_NETWORKING", Default: false},
		{Name: "digitalocean-vpc", Usage: "Private network: its ID or name (default: the region's own)", EnvVar: "DIGITALOCEAN_VPC", Default: ""},
		{Name: "digitalocean-project", Usage: "Project: its ID or name (default: the account's own)", EnvVar: "DIGITALOCEAN_PROJECT", Default: ""},
		{Name: "digitalocean-expose", Usage: "Who reaches SSH and the engine: firewall (--digitalocean-allow-from only), ssh (the engine listens on no port; SSH as with firewall) or open (everybody)", EnvVar: "DIGITALOCEAN_EXPOSE", Default: exposeFirewall, Values: []string{exposeFirewall, exposeSSH, exposeOpen}},
		{Name: "digitalocean-allow-from", Usage: "Addresses or networks that reach SSH and the engine, by commas (default: the address of this computer as the droplet sees it)", EnvVar: "DIGITALOCEAN_ALLOW_FROM", Default: ""},
		{Name: "digitalocean-reserved-ip", Usage: "Reserved IP: an address of the account that is free, or \"new\"", EnvVar: "DIGITALOCEAN_RESERVED_IP", Default: ""},
		{Name: "digitalocean-volume", Usage: "Volume: the ID or name of one that exists, or new:GB; may be repeated", EnvVar: "DIGITALOCEAN_VOLUMES", Default: []string{}},
		{Name: "digitalocean-backups", Usage: "Back the droplet up every week", EnvVar: "DIGITALOCEAN_BACKUPS", Default: false},
		{Name: "digitalocean-backup-policy", Usage: "When to back up: daily@HOUR or weekly:DAY@HOUR, e.g. weekly:sun@4", EnvVar: "DIGITALOCEAN_BACKUP_POLICY", Default: ""},
		{Name: "digitalocean-monitoring", Usage: "Have DigitalOcean's agent installed for graphs and alerts", EnvVar: "DIGITALOCEAN_MONITORING", Default: false},
		{Name: "digitalocean-userdata", Usage: "File with user-data for cloud-init, which goes beside berth's own", EnvVar: "DIGITALOCEAN_USERDATA", Default: ""},
		{Name: "digitalocean-tags", Usage: "Tags, by commas", EnvVar: "DIGITALOCEAN_TAGS", Default: ""},
	}
}

// What --digitalocean-expose may be.
const (
	exposeFirewall = "firewall"
	exposeSSH      = "ssh"
	exposeOpen     = "open"
)

// wanted is what was asked for, checked as far as that can be without the API.
type wanted struct {
	apiURL, region, size, image, sshUser string
	sshPort                              int
	keys                                 []string // fingerprints
	ownKey                               string   // authorized_keys form
	ipv6, private, backups, monitoring   bool
	policy                               *godo.DropletBackupPolicyRequest
	userdata                             []byte
	tags, allow                          []string
	vpc, project, expose, reserved       string
	volumes                              []volume
}

// parse reads the options. Its errors name the flag.
func parse(o drivers.Options) (*wanted, error) {
	str := func(name string) string { return strings.TrimSpace(o.String("digitalocean-" + name)) }
	w := &wanted{
		apiURL: str("api-url"), region: str("region"), size: str("size"), image: str("image"), sshUser: str("ssh-user"), sshPort: o.Int("digitalocean-ssh-port"),
		keys: commas(str("ssh-key-fingerprint")), ipv6: o.Bool("digitalocean-ipv6"), private: o.Bool("digitalocean-private-networking"),
		backups: o.Bool("digitalocean-backups"), monitoring: o.Bool("digitalocean-monitoring"), tags: commas(str("tags")),
		vpc: str("vpc"), project: str("project"), expose: str("expose"), reserved: str("reserved-ip"),
	}
	for _, f := range []func() error{
		func() (err error) { _, err = parseURL(w.apiURL); return err },
		w.checkSimple,
		func() (err error) { w.allow, err = parseAllow(str("allow-from")); return err },
		func() (err error) { w.policy, err = parsePolicy(str("backup-policy")); return err },
		func() (err error) { w.volumes, err = parseVolumes(o.Strings("digitalocean-volume")); return err },
		func() (err error) { w.ownKey, err = publicKey(str("ssh-key-path")); return err },
		func() (err error) { w.userdata, err = readUserdata(str("userdata")); return err },
	} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	w.backups = w.backups || w.policy != nil
	return w, nil
}

// Sets of letters. They are not regular expressions: those would be compiled whenever berth starts.
const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

// consists tells a text of 1 to most letters, all of a set.
func consists(text, set string, most int) bool {
	return text != "" && len(text) <= most && strings.Trim(text, set) == ""
}

// isUser is useradd's rule for names.
func isUser(name string) bool {
	return consists(name, lower+digits+"_-", 32) && !strings.Contains(digits+"-", name[:1])
}

// isTag is DigitalOcean's rule for tags.
func isTag(name string) bool { return consists(name, lower+upper+digits+":_-", 255) }

// isMD5 tells 16 pairs of hexadecimal digits with colons.
func isMD5(text string) bool {
	pairs := strings.Split(text, ":")
	return len(pairs) == 16 && !slices.ContainsFunc(pairs, func(p string) bool { return len(p) != 2 || !consists(p, digits+"abcdef", 2) })
}

func (w *wanted) checkSimple() error {
	for flag, v := range map[string]string{"region": w.region, "size": w.size, "image": w.image} {
		if v == "" || strings.ContainsAny(v, "/?#% ") {
			return fmt.Errorf("--digitalocean-%s %q: that is no %s", flag, v, flag)
		}
	}
	switch {
	case !isUser(w.sshUser):
		return fmt.Errorf("--digitalocean-ssh-user %q: that is no user's name", w.sshUser)
	case w.sshPort < 1 || w.sshPort > 65535:
		return fmt.Errorf("--digitalocean-ssh-port %d: it must be between 1 and 65535", w.sshPort)
	case w.expose != exposeFirewall && w.expose != exposeSSH && w.expose != exposeOpen:
		return fmt.Errorf("--digitalocean-expose %q: it must be firewall, ssh or open", w.expose)
	}
	for _, t := range w.tags {
		if !isTag(t) {
			return fmt.Errorf("--digitalocean-tags: %q: a tag has letters, digits, colons, dashes and underscores only", t)
		}
		if own := strings.ToLower(t); strings.HasPrefix(own, "berth:") || strings.HasPrefix(own, "berth-store:") || strings.HasPrefix(own, "berth-owns:") {
			return fmt.Errorf("--digitalocean-tags: %q: tags that begin so are berth's own", t)
		}
	}
	for i, k := range w.keys {
		k = strings.TrimPrefix(strings.ToLower(k), "md5:")
		if !isMD5(k) {
			return fmt.Errorf("--digitalocean-ssh-key-fingerprint %q: it has 16 pairs of hexadecimal digits with colons (ssh-keygen -l -E md5)", w.keys[i])
		}
		w.keys[i] = k
	}
	if w.reserved != "" && w.reserved != "new" {
		if a, err := netip.ParseAddr(w.reserved); err != nil || !a.Is4() {
			return fmt.Errorf("--digitalocean-reserved-ip %q: it must be an IPv4 address, or \"new\"", w.reserved)
		}
	}
	return nil
}

func commas(text string) (l []string) {
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			l = append(l, s)
		}
	}
	return l
}

// parseAllow makes networks of addresses.
func parseAllow(text string) ([]string, error) {
	var l []string
	for _, s := range commas(text) {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("--digitalocean-allow-from: %q is neither an address nor a network such as 192.0.2.0/24", s)
		}
		l = append(l, p.Masked().String())
	}
	return l, nil
}

// parsePolicy reads PLAN[:DAY][@HOUR].
func parsePolicy(text string) (*godo.DropletBackupPolicyRequest, error) {
	if text == "" {
		return nil, nil
	}
	bad := func(why string) (*godo.DropletBackupPolicyRequest, error) {
		return nil, fmt.Errorf("--digitalocean-backup-policy %q: %s", text, why)
	}
	rest, hour, hasHour := strings.Cut(text, "@")
	plan, day, _ := strings.Cut(rest, ":")
	p := &godo.DropletBackupPolicyRequest{Plan: strings.ToLower(plan), Weekday: strings.ToUpper(day)}
	switch {
	case p.Plan != "daily" && p.Plan != "weekly":
		return bad("the plan must be daily or weekly")
	case p.Plan == "daily" && day != "":
		return bad("a daily plan has no day")
	case p.Plan == "weekly" && !slices.Contains([]string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}, p.Weekday):
		return bad("a weekly plan has a day: sun, mon, tue, wed, thu, fri or sat")
	}
	n, err := strconv.Atoi(hour)
	if !hasHour || err != nil || n < 0 || n > 20 || n%4 != 0 {
		return bad("the hour (UTC) must be @0, @4, @8, @12, @16 or @20")
	}
	p.Hour = &n
	return p, nil
}

// maxVolumes is how many volumes a droplet can have (DigitalOcean's "Volumes Limits").
const maxVolumes = 15

func parseVolumes(l []string) ([]volume, error) {
	var all []volume
	for _, text := range l {
		size, fresh := strings.CutPrefix(text, "new:")
		if !fresh {
			if text == "" {
				return nil, errors.New("--digitalocean-volume: it is empty")
			}
			all = append(all, volume{Name: text})
			continue
		}
		gb, err := strconv.ParseInt(size, 10, 64)
		if err != nil || gb < 1 || gb > 16384 {
			return nil, fmt.Errorf("--digitalocean-volume %q: the size must be between 1 and 16384 GB", text)
		}
		all = append(all, volume{GB: gb})
	}
	if len(all) > maxVolumes {
		return nil, fmt.Errorf("--digitalocean-volume: a droplet has at most %d", maxVolumes)
	}
	return all, nil
}

// publicKey is the public half of the key at path, in authorized_keys form.
func publicKey(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	bad := func(err error) (string, error) { return "", fmt.Errorf("--digitalocean-ssh-key-path: %w", err) }
	data, err := os.ReadFile(path + ".pub")
	if err == nil {
		k, _, _, _, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			return bad(fmt.Errorf("%s.pub: %w", path, err))
		}
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), nil
	}
	if data, err = os.ReadFile(path); err != nil {
		return bad(err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return bad(fmt.Errorf("%s: %w; its public half is looked for in %s.pub", path, err, path))
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

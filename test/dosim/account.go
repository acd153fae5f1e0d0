package dosim

import (
	"bytes"
	"crypto/md5"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

var accountRoutes = []route{
	{"GET", "/v2/account", "account:read", 200, (*Server).getAccount},
	{"GET", "/v2/sizes", "sizes:read", 200, (*Server).listSizes},
	{"GET", "/v2/regions", "regions:read", 200, (*Server).listRegions},
	{"GET", "/v2/account/keys", "ssh_key:read", 200, (*Server).listKeys},
	{"POST", "/v2/account/keys", "ssh_key:create", 201, (*Server).createKey},
	{"GET", "/v2/account/keys/{key}", "ssh_key:read", 200, (*Server).getKey},
	{"PUT", "/v2/account/keys/{key}", "ssh_key:update", 200, (*Server).updateKey},
	{"DELETE", "/v2/account/keys/{key}", "ssh_key:delete", 204, (*Server).deleteKey},
}

func (s *Server) getAccount(*request) (any, error) {
	return object{"account": object{
		"droplet_limit": s.opt.DropletLimit, "floating_ip_limit": reservedIPLimit, "reserved_ip_limit": reservedIPLimit, "volume_limit": 100,
		"email": "dosim@example.com", "name": "Droplet Simulator", "uuid": "b6fa89dbf6d9156cace5f3c78dc9851d957381ef",
		"email_verified": true, "status": "active", "status_message": "",
		"team": object{"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "My Team"},
	}}, nil
}

func (s *Server) listSizes(r *request) (any, error) {
	return page(s, r, "sizes", wires(sizes(), size.wire))
}

func (s *Server) listRegions(r *request) (any, error) {
	return page(s, r, "regions", wires(regions(), region.wire))
}

// sshKey is a public key of the account.
type sshKey struct {
	ID          int    `json:"id"`
	Fingerprint string `json:"fingerprint"`
	PublicKey   string `json:"public_key"`
	Name        string `json:"name"`
}

func (s *Server) listKeys(r *request) (any, error) { return page(s, r, "ssh_keys", s.keys) }

func (s *Server) createKey(r *request) (any, error) {
	var in struct {
		Name      string `json:"name"`
		PublicKey string `json:"public_key"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, invalid("SSH Key Name can't be blank")
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(in.PublicKey))
	if err != nil {
		return nil, invalid("Key invalid, key should be of the format `type key [comment]`")
	}
	k := &sshKey{s.id(), fingerprint(key), strings.TrimSpace(in.PublicKey), in.Name}
	for _, other := range s.keys {
		if other.Fingerprint == k.Fingerprint {
			return nil, invalid("SSH Key is already in use on your account")
		}
	}
	s.keys = append(s.keys, k)
	return object{"ssh_key": k}, nil
}

// fingerprint is a key's MD5 sum, which the API knows it by.
func fingerprint(k ssh.PublicKey) string {
	sum := md5.Sum(k.Marshal())
	var b bytes.Buffer
	for i, c := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strconv.FormatInt(int64(c)+0x100, 16)[1:])
	}
	return b.String()
}

// key finds a key by its id or its fingerprint.
func (s *Server) key(ref string) (*sshKey, error) {
	return find(s.keys, func(k *sshKey) bool { return k.Fingerprint == ref || strconv.Itoa(k.ID) == ref })
}

func (s *Server) getKey(r *request) (any, error) {
	k, err := s.key(r.PathValue("key"))
	return object{"ssh_key": k}, err
}

func (s *Server) updateKey(r *request) (any, error) {
	k, err := s.key(r.PathValue("key"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, invalid("SSH Key Name can't be blank")
	}
	k.Name = in.Name
	return object{"ssh_key": k}, nil
}

func (s *Server) deleteKey(r *request) (any, error) {
	k, err := s.key(r.PathValue("key"))
	s.keys = filter(s.keys, func(o *sshKey) bool { return o != k })
	return nil, err
}

package sshutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxBanner bounds what a server may say before it lets us in, in bytes. OpenSSH sends at most 256 kB in one message, but
// a hostile server may send any number of them.
const maxBanner = 1 << 20

// Dial connects and authenticates. The context and the endpoint's timeout bound all of it; the context is not needed afterwards.
// Close the client.
func Dial(ctx context.Context, e Endpoint) (*Client, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	pinned, err := parseHostKeys(e.HostKeys)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	conn, err := e.dial(ctx)
	if err != nil {
		return nil, networkError(ctx, e, err)
	}
	rec := &recorder{Conn: conn}
	// Closing is the only way to interrupt a handshake.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	h := &handshake{endpoint: e, pinned: pinned, conn: rec}
	c, chans, reqs, err := ssh.NewClientConn(rec, e.Addr(), h.config())
	h.auth.close()
	if !stop() {
		if err == nil {
			c.Close()
		}
		return nil, networkError(ctx, e, context.Cause(ctx))
	}
	if err != nil {
		conn.Close()
		return nil, h.explain(err)
	}
	rec.done()
	return newClient(e, ssh.NewClient(c, chans, reqs)), nil
}

// handshake is one attempt, and remembers what is needed to say why it failed.
type handshake struct {
	endpoint Endpoint
	pinned   []ssh.PublicKey
	conn     *recorder
	auth     identities

	mismatch  string // fingerprint shown instead of a pinned one
	hostKeyOK bool
	bannerErr error
	banner    int // bytes so far
}

func (h *handshake) config() *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User:              h.endpoint.user(),
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return h.auth.load(h.endpoint) })},
		HostKeyCallback:   h.checkHostKey,
		HostKeyAlgorithms: hostKeyAlgorithms(h.pinned),
		BannerCallback:    h.showBanner,
		ClientVersion:     "SSH-2.0-berth",
	}
}

func (h *handshake) checkHostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	for _, p := range h.pinned {
		if bytes.Equal(p.Marshal(), key.Marshal()) {
			h.hostKeyOK = true
			return nil
		}
	}
	h.mismatch = describeKey(key)
	return HostKeyMismatch
}

func (h *handshake) showBanner(text string) error {
	if h.banner += len(text); h.banner > maxBanner {
		h.bannerErr = fmt.Errorf("sent a banner of more than %d bytes", maxBanner)
		return h.bannerErr
	}
	if h.endpoint.Banner != nil {
		_, _ = io.WriteString(h.endpoint.Banner, text)
	}
	return nil
}

// explain turns an error of x/crypto, most of which have no type, into one that says what to do.
func (h *handshake) explain(err error) error {
	out := &DialError{User: h.endpoint.user(), Addr: h.endpoint.Addr(), Kind: Other, Err: err}
	var negotiation *ssh.AlgorithmNegotiationError
	switch text := err.Error(); {
	case h.mismatch != "":
		out.Kind = HostKeyMismatch
		out.Detail = fmt.Sprintf("it shows %s, expected is %s: another machine answers there, or someone intercepts the connection",
			h.mismatch, describeKeys(h.pinned))
	case errors.As(err, &negotiation) && negotiation.What == "host key":
		out.Kind = HostKeyMismatch
		out.Detail = fmt.Sprintf("it has only keys of the types %s, expected is %s",
			strings.Join(negotiation.RequestedAlgorithms, ", "), describeKeys(h.pinned))
	case h.bannerErr != nil:
		out.Kind, out.Detail = NotSSH, h.bannerErr.Error()
	case strings.Contains(text, "unable to authenticate"), strings.Contains(text, "Too many authentication failures"):
		out.Kind, out.Detail = AuthFailed, h.auth.explain(text)
	case !h.conn.isSSH():
		out.Kind, out.Detail = h.explainPreface()
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), isReset(err):
		out.Kind, out.Detail = Closed, "before the session was ready"
		if h.hostKeyOK {
			out.Detail = "by the server during authentication"
		}
	default:
		out.Detail = strings.TrimPrefix(text, "ssh: handshake failed: ")
	}
	return out
}

func (h *handshake) explainPreface() (Kind, string) {
	first := h.conn.first()
	if len(first) == 0 {
		return Closed, "without a word: its SSH server is not ready, or has too many connections"
	}
	return NotSSH, fmt.Sprintf("it answers with %q", first)
}

// networkError explains an error of the connection below SSH.
func networkError(ctx context.Context, e Endpoint, err error) error {
	var jump *JumpError
	if errors.As(err, &jump) {
		return err // it tells all of it
	}
	out := &DialError{User: e.user(), Addr: e.Addr(), Kind: Other, Detail: err.Error(), Err: err}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("ssh %s@%s: %w", e.user(), e.Addr(), context.Cause(ctx))
	case errors.As(err, &dns) && !dns.IsTimeout:
		out.Kind, out.Detail = NoSuchHost, e.Host
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		out.Kind, out.Detail = TimedOut, "no answer within "+e.timeout().String()
	case isRefused(err):
		out.Kind, out.Detail = Refused, "nothing listens there, or a firewall rejects it"
	case isUnreachable(err):
		out.Kind = Unreachable
	}
	return out
}

func describeKey(k ssh.PublicKey) string { return k.Type() + " " + ssh.FingerprintSHA256(k) }

func describeKeys(keys []ssh.PublicKey) string {
	var list []string
	for _, k := range keys {
		list = append(list, describeKey(k))
	}
	return strings.Join(list, " or ")
}

// recorder keeps the first bytes that a peer sends, until the handshake is over: they tell what it is when it is no SSH server.
type recorder struct {
	net.Conn
	mu   sync.Mutex // guards the rest
	head []byte
	off  bool
}

// recorded is enough for a line of HTTP or SMTP, in bytes.
const recorded = 64

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.off {
		r.head = append(r.head, p[:n]...)
		if len(r.head) >= recorded {
			r.head, r.off = r.head[:recorded], true
		}
	}
	return n, err
}

func (r *recorder) done() { r.mu.Lock(); r.off = true; r.mu.Unlock() }

func (r *recorder) first() string { r.mu.Lock(); defer r.mu.Unlock(); return string(r.head) }

func (r *recorder) isSSH() bool { return strings.Contains(r.first(), "SSH-") }

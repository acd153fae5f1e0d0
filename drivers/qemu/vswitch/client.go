package vswitch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
)

// Client speaks to the switch of one run folder.
type Client struct {
	http http.Client
}

// NewClient returns a client of the switch whose run folder is dir. It connects for each call, so it need not be closed.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, Socket))
	}
	return &Client{http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Ping asks for the version of the switch's API.
func (c *Client) Ping(ctx context.Context) (version int, err error) {
	var p Pong
	err = c.call(ctx, "GET", "/ping", nil, &p)
	return p.Version, err
}

// Quit ends the switch; its machines stay, and the next switch takes them over.
func (c *Client) Quit(ctx context.Context) error { return c.call(ctx, "POST", "/quit", nil, nil) }

// Attach connects the switch to a machine's QEMU and opens the machine's ports on the host. It does nothing when that is done
// already.
func (c *Client) Attach(ctx context.Context, m Machine) error {
	return c.call(ctx, "POST", "/machines", m, nil)
}

// Detach ends what Attach began; a machine that is not attached is no error.
func (c *Client) Detach(ctx context.Context, index int) error {
	return c.call(ctx, "DELETE", machinePath(index, ""), nil, nil)
}

// List returns the machines that are attached.
func (c *Client) List(ctx context.Context) (l []Status, err error) {
	err = c.call(ctx, "GET", "/machines", nil, &l)
	return l, err
}

// Get returns one machine; an Error with status 404 when it is not attached.
func (c *Client) Get(ctx context.Context, index int) (s Status, err error) {
	err = c.call(ctx, "GET", machinePath(index, ""), nil, &s)
	return s, err
}

// Wait returns when SSH answers in the machine. Errors have the status 424 when the guest says that it failed, 410 when its QEMU
// has ended.
func (c *Client) Wait(ctx context.Context, index int) error {
	return c.call(ctx, "GET", machinePath(index, "/wait"), nil, nil)
}

// WaitSpoke returns when the guest has given any sign of life; errors are as Wait's.
func (c *Client) WaitSpoke(ctx context.Context, index int) error {
	return c.call(ctx, "GET", machinePath(index, "/spoke"), nil, nil)
}

// PowerOff asks the guest to end in an orderly way.
func (c *Client) PowerOff(ctx context.Context, index int) error {
	return c.call(ctx, "POST", machinePath(index, "/poweroff"), nil, nil)
}

func machinePath(index int, rest string) string { return fmt.Sprintf("/machines/%d%s", index, rest) }

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://switch/v1"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("the virtual switch: %w", err)
	}
	defer resp.Body.Close()
	r := io.LimitReader(resp.Body, 16<<20)
	if resp.StatusCode != http.StatusOK {
		e := &Error{Status: resp.StatusCode}
		if json.NewDecoder(r).Decode(e) != nil || e.Message == "" {
			e.Message = "the virtual switch answers " + resp.Status
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(r).Decode(out); err != nil {
		return fmt.Errorf("reading the virtual switch's answer: %w", err)
	}
	return nil
}

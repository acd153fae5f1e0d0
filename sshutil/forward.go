package sshutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// DialContext connects from the machine to an address that it can reach: network is "tcp" or "unix". The connections know no
// deadlines; close them to interrupt.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dial := func() (net.Conn, error) { return c.ssh.Dial(network, address) }
	conn, err := await(ctx, dial, func(conn net.Conn) { conn.Close() })
	if err != nil {
		err = fmt.Errorf("connecting from %s to %s: %w", c.endpoint.Host, address, c.broken(err))
		if refusesForwards(err) {
			err = unsupportedError{err}
		}
		return nil, err
	}
	return conn, nil
}

// refusesForwards tells a server that connects to nothing of the kind from one that could not connect: dropbear knows no unix
// sockets. OpenSSH that was told not to connect to them says no more than that it could not.
func refusesForwards(err error) bool {
	var open *ssh.OpenChannelError
	return errors.As(err, &open) && (open.Reason == ssh.UnknownChannelType || open.Reason == ssh.Prohibited)
}

// unsupportedError is errors.ErrUnsupported in the words of its error.
type unsupportedError struct{ error }

func (e unsupportedError) Unwrap() error        { return e.error }
func (e unsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// ForwardLocal passes each connection to ln on to an address that the machine can reach, as `ssh -L` does. It closes ln and
// returns when the context is done (nil), the connection is lost, or ln fails.
func (c *Client) ForwardLocal(ctx context.Context, ln net.Listener, network, address string) error {
	return c.serve(ctx, ln, func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		return c.DialContext(ctx, network, address)
	})
}

// ForwardRemote has the machine listen at address ("unix": a path, "tcp": host:port, port 0 for any) and passes each
// connection to what dial opens here, as `ssh -R` does. It calls listening once the machine listens and returns as ForwardLocal.
func (c *Client) ForwardRemote(ctx context.Context, network, address string, listening func(net.Addr), dial func(context.Context) (net.Conn, error)) error {
	listen := func() (net.Listener, error) { return c.ssh.Listen(network, address) }
	ln, err := await(ctx, listen, func(ln net.Listener) { ln.Close() })
	if err != nil {
		return fmt.Errorf("listening on %s at %s: %w", c.endpoint.Host, address, c.broken(err))
	}
	if listening != nil {
		listening(ln.Addr())
	}
	return c.serve(ctx, ln, func(ctx context.Context, _ net.Conn) (net.Conn, error) { return dial(ctx) })
}

// ForwardDynamic is a SOCKS5 proxy at ln whose connections leave from the machine, as `ssh -D` does. It returns as ForwardLocal.
func (c *Client) ForwardDynamic(ctx context.Context, ln net.Listener) error {
	return c.serve(ctx, ln, func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		return socks(conn, func(address string) (net.Conn, error) { return c.DialContext(ctx, "tcp", address) })
	})
}

// serve joins each connection to ln with the one that open yields for it, until the context is done or the client's connection
// has ended, and then ends them all before it returns.
func (c *Client) serve(ctx context.Context, ln net.Listener, open func(context.Context, net.Conn) (net.Conn, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return c.acceptError(ctx, err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			far, err := open(ctx, conn)
			if err != nil {
				return // the near side sees its connection closed, as with ssh
			}
			Join(ctx, conn, far)
		}()
	}
}

func (c *Client) acceptError(ctx context.Context, err error) error {
	select {
	case <-c.done:
		return c.Err()
	default:
	}
	if ctx.Err() != nil {
		return nil
	}
	return c.broken(err)
}

// Join copies both ways until both sides have ended or the context is done, and closes both. The end of one direction is passed on as a half
// close: protocols such as Docker's attach need it.
func Join(ctx context.Context, a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var wg sync.WaitGroup
	pass := func(dst, src net.Conn) {
		defer wg.Done()
		_, err := io.Copy(dst, src)
		cw, ok := dst.(interface{ CloseWrite() error })
		if err != nil && !errors.Is(err, io.EOF) || !ok {
			a.Close()
			b.Close()
			return
		}
		_ = cw.CloseWrite()
	}
	wg.Add(2)
	go pass(a, b)
	go pass(b, a)
	wg.Wait()
}

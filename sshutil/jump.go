package sshutil

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// DialVia opens a connection from a jump host; network is "tcp" or "unix". The connection to the jump host ends with it.
func DialVia(ctx context.Context, jump Endpoint, network, address string) (net.Conn, error) {
	via, err := Dial(ctx, jump)
	if err != nil {
		return nil, &JumpError{Jump: jump.Addr(), Err: err}
	}
	conn, err := via.DialContext(ctx, network, address)
	if err != nil {
		via.Close()
		return nil, &JumpError{Addr: address, Jump: jump.Addr(), Err: err}
	}
	return &jumpConn{Conn: conn, via: via}, nil
}

// jumpConn is a connection through a jump host.
type jumpConn struct {
	net.Conn
	via *Client
}

func (c *jumpConn) Close() error { return errors.Join(c.Conn.Close(), c.via.Close()) }

// JumpError is a connection that failed at or behind a jump host.
type JumpError struct {
	Addr string // where the jump host should have connected to; empty when it was not reached itself
	Jump string
	Err  error
}

func (e *JumpError) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("the jump host %s: %v", e.Jump, e.Err)
	}
	return fmt.Sprintf("the jump host %s cannot connect to %s: %v", e.Jump, e.Addr, e.cause())
}

// cause is the jump host's own word, where there is one.
func (e *JumpError) cause() string {
	var refused *ssh.OpenChannelError
	if errors.As(e.Err, &refused) && refused.Message != "" {
		return refused.Message
	}
	return e.Err.Error()
}

func (e *JumpError) Unwrap() error { return e.Err }

// Is takes a host behind the jump host that cannot be reached for one that does not listen yet.
func (e *JumpError) Is(target error) bool { return e.Addr != "" && target == Refused }

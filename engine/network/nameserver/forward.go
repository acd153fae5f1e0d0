package nameserver

import (
	"context"
	"errors"
	"net/netip"

	"github.com/miekg/dns"
)

// forward asks each resolver in turn, over the protocol that the client came by: an answer that is truncated is passed on
// as such, and the client comes back over TCP.
func (s *Server) forward(query *dns.Msg, overTCP bool) *dns.Msg {
	ctx, cancel := context.WithTimeout(s.ctx, totalTimeout)
	defer cancel()
	var last *dns.Msg
	for _, server := range s.zone.Servers() {
		reply, err := ask(ctx, query, server, overTCP)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			continue
		}
		if reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError {
			return reply
		}
		last = reply // another resolver may know more
	}
	if last != nil {
		return last
	}
	return fail(query, dns.RcodeServerFailure)
}

// ask sends a query under an id and from a port that an attacker cannot guess.
func ask(ctx context.Context, query *dns.Msg, server netip.AddrPort, overTCP bool) (*dns.Msg, error) {
	client := dns.Client{Net: "udp", Timeout: serverTimeout, UDPSize: udpSize}
	if overTCP {
		client.Net = "tcp"
	}
	out := query.Copy()
	out.Id = dns.Id()
	reply, _, err := client.ExchangeContext(ctx, out, server.String())
	if err != nil {
		return nil, err
	}
	if len(reply.Question) != 1 || reply.Question[0] != query.Question[0] {
		return nil, errors.New("the reply is to another question")
	}
	reply.Id = query.Id
	return reply, nil
}

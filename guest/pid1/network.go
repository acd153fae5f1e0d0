//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/getberth/berth/guest/seed"
)

// nic is the one network card of the guest.
const nic = "eth0"

// dhcpTimeout is for one answer; the virtual switch answers in milliseconds, but may be started after the guest.
const dhcpTimeout = 2 * time.Second

// configureNetwork brings loopback and the network card up, with an address by DHCP that is then renewed for ever.
func configureNetwork(ctx context.Context, log *slog.Logger, hostname string) error {
	if err := setSysctls(); err != nil {
		log.Warn("some kernel parameters cannot be set", "error", err)
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	if err := linkUp(nic); err != nil {
		return err
	}
	lease, err := askUntilAnswered(ctx, hostname)
	if err != nil {
		return err
	}
	if err := apply(lease, hostname); err != nil {
		return err
	}
	go renew(ctx, log, lease, hostname)
	return nil
}

func linkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("network interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bringing %s up: %w", name, err)
	}
	return nil
}

// dhcpPatience bounds the wait for a first lease: the switch may be late, but a guest without a network is of no use.
const dhcpPatience = 2 * time.Minute

func askUntilAnswered(ctx context.Context, hostname string) (*nclient4.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, dhcpPatience)
	defer cancel()
	for {
		lease, err := ask(ctx, hostname)
		if err == nil {
			return lease, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("asking for an address on %s: %w", nic, err)
		}
	}
}

func ask(ctx context.Context, hostname string) (*nclient4.Lease, error) {
	c, err := nclient4.New(nic, nclient4.WithTimeout(dhcpTimeout), nclient4.WithRetry(2))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Request(ctx, dhcpv4.WithOption(dhcpv4.OptHostName(hostname)))
}

// apply sets the address, the default route, and the files that resolvers read.
func apply(lease *nclient4.Lease, hostname string) error {
	l, err := netlink.LinkByName(nic)
	if err != nil {
		return err
	}
	ack := lease.ACK
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask()
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ack.YourIPAddr, Mask: mask}}
	if err := netlink.AddrReplace(l, addr); err != nil {
		return fmt.Errorf("setting address %s: %w", addr, err)
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 576 {
		if err := netlink.LinkSetMTU(l, int(mtu)); err != nil {
			return fmt.Errorf("setting MTU %d: %w", mtu, err)
		}
	}
	routers := ack.Router()
	if len(routers) == 0 {
		return errors.New("the DHCP server named no router")
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: routers[0]}); err != nil {
		return fmt.Errorf("setting the default route by %s: %w", routers[0], err)
	}
	return writeResolver(ack, hostname)
}

func writeResolver(ack *dhcpv4.DHCPv4, hostname string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "search %s\n", seed.Domain)
	for _, ip := range ack.DNS() {
		fmt.Fprintf(&b, "nameserver %s\n", ip)
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s.%s %s\n", ack.YourIPAddr, hostname, seed.Domain, hostname)
	return errors.Join(
		os.WriteFile("/run/resolv.conf", []byte(b.String()), 0o644),
		os.WriteFile("/run/hosts", []byte(hosts), 0o644),
		os.WriteFile("/run/hostname", []byte(hostname+"\n"), 0o644),
	)
}

// renew asks again at half of the lease's time, and on until it is answered.
func renew(ctx context.Context, log *slog.Logger, lease *nclient4.Lease, hostname string) {
	for {
		wait := lease.ACK.IPAddressLeaseTime(time.Hour) / 2
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait, time.Minute)):
		}
		next, err := askUntilAnswered(ctx, hostname)
		if err != nil {
			log.Warn("renewing the address", "error", err)
			continue
		}
		lease = next
		if err := apply(lease, hostname); err != nil {
			log.Warn("renewing the address", "error", err)
		}
	}
}

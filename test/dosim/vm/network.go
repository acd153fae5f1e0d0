//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/dosim"
)

// metadataAddress is where droplets ask.
const metadataAddress = "169.254.169.254"

// network is what droplets are connected to. The public network is routed: each droplet has a link to the namespace of its own
// and reaches the others, and the host, through the namespace, which answers ARP for them. So the firewall sees all traffic, and
// the metadata service knows a droplet by the link on which it asks, whatever address it has by then. The private networks are
// bridges, one for each VPC.
type network struct {
	space  *space
	host   netlink.Link // its end on the host, dosimN
	public netip.Prefix
	nl     *netlink.Handle // in the namespace
	vpcs   map[string]int  // index of the bridge by the VPC's id
}

// newNetwork takes the first free number of 0 to 255, which the host's link and the public network are named after.
func newNetwork() (*network, error) {
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	n := &network{space: s, vpcs: map[string]int{}}
	if err := n.setUp(); err != nil {
		n.close()
		return nil, fmt.Errorf("setting up the droplets' network: %w", err)
	}
	return n, nil
}

func (n *network) setUp() error {
	i, err := n.addHostLink()
	if err != nil {
		return err
	}
	n.public = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 24)
	host := netip.AddrFrom4([4]byte{198, 18, byte(i), 254})
	if err := netlink.AddrAdd(n.host, &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(host, 24))}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(n.host); err != nil {
		return err
	}
	if err := n.space.do(func() error { return n.setUpInside(host) }); err != nil {
		return err
	}
	return n.apply(&filtering{}) // from now on, connections are tracked
}

// addHostLink adds the host's link, whose name is the number's reservation.
func (n *network) addHostLink() (int, error) {
	for i := range 256 {
		name := "dosim" + strconv.Itoa(i)
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "host0", PeerNamespace: netlink.NsFd(n.space.file.Fd())})
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("link %s: %w", name, err)
		}
		n.host, err = netlink.LinkByName(name)
		return i, err
	}
	return 0, errors.New("all of dosim0 to dosim255 are taken")
}

// setUpInside has the namespace route. It takes what is sent to the name servers, where nothing listens, so that whoever asks is told
// at once that there is no answer: of a network that cannot be reached a resolver would not be told.
func (n *network) setUpInside(host netip.Addr) error {
	var err error
	if n.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/neigh/default/proxy_delay": "0", "ipv4/icmp_ratelimit": "0",
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0", "netfilter/nf_conntrack_tcp_loose": "0", "ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1",
		"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-arptables": "0", "bridge/bridge-nf-call-ip6tables": "0",
	} {
		if err := sysctl(name, value); err != nil {
			return err
		}
	}
	lo, err := n.nl.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range append(dosim.Nameservers(), metadataAddress) {
		if err := n.nl.AddrAdd(lo, &netlink.Addr{IPNet: ipnet(netip.MustParsePrefix(a + "/32"))}); err != nil {
			return err
		}
	}
	return n.attach("host0", host)
}

// attach makes a link one on which an address is reached. Runs in the namespace.
func (n *network) attach(name string, to netip.Addr) error {
	if err := sysctl("ipv4/conf/"+name+"/proxy_arp", "1"); err != nil {
		return err
	}
	l, err := n.nl.LinkByName(name)
	if err != nil {
		return err
	}
	if err := n.nl.AddrAdd(l, &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(n.gateway(), 32))}); err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(l); err != nil {
		return err
	}
	return n.nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipnet(netip.PrefixFrom(to, 32))})
}

func (n *network) gateway() netip.Addr { return n.public.Addr().Next() }

// taps opens the links of a droplet, for QEMU, and says what the public one is called. They go when the last of their files is
// closed.
func (n *network) taps(id int, public netip.Addr, vpc string) (eth0, eth1 *os.File, err error) {
	err = n.space.do(func() (err error) {
		if eth0, err = openTap(tapName(id)); err != nil {
			return err
		}
		if eth1, err = openTap(fmt.Sprintf("prv%d", id)); err != nil {
			return err
		}
		if err := n.attach(tapName(id), public); err != nil {
			return err
		}
		// From an address that it has made up, cloud-init asks the metadata service. Several droplets may make up the same: the
		// route is looked up for the link that the listener is bound to, and must only differ in its metric.
		l, err := n.nl.LinkByName(tapName(id))
		if err != nil {
			return err
		}
		if err := n.nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: l.Attrs().Index,
			Dst: ipnet(netip.MustParsePrefix("169.254.0.0/16"))}); err != nil {
			return err
		}
		return n.join(fmt.Sprintf("prv%d", id), vpc)
	})
	if err != nil {
		for _, f := range []*os.File{eth0, eth1} {
			if f != nil {
				f.Close()
			}
		}
	}
	return eth0, eth1, err
}

func tapName(id int) string { return fmt.Sprintf("pub%d", id) }

// join adds a link to the bridge of a VPC, which is made for its first droplet. Runs in the namespace.
func (n *network) join(name, vpc string) error {
	i, known := n.vpcs[vpc]
	if !known {
		i = len(n.vpcs)
		if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("vpc%d", i)}}); err != nil {
			return err
		}
		n.vpcs[vpc] = i
	}
	b, err := n.nl.LinkByName(fmt.Sprintf("vpc%d", i))
	if err != nil {
		return err
	}
	l, err := n.nl.LinkByName(name)
	if err != nil {
		return err
	}
	if err := n.nl.LinkSetMaster(l, b); err != nil {
		return err
	}
	return errors.Join(n.nl.LinkSetUp(b), n.nl.LinkSetUp(l))
}

// openTap makes a link in the calling thread's namespace.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// listenMetadata listens where one droplet, and no other, asks for its metadata.
func (n *network) listenMetadata(id int) (l net.Listener, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) {
			serr = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, tapName(id))
		})
		return errors.Join(err, serr)
	}}
	err = n.space.do(func() (err error) {
		l, err = lc.Listen(context.Background(), "tcp4", metadataAddress+":80")
		return err
	})
	return l, err
}

// close removes the host's link; all else goes with the namespace.
func (n *network) close() error {
	var err error
	if n.host != nil {
		err = netlink.LinkDel(n.host)
	}
	if n.nl != nil {
		n.nl.Close()
	}
	n.space.close()
	return err
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

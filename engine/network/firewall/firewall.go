package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socketBuffer holds a whole transaction and its acknowledgements, in bytes: nothing is sent in parts, as it would no longer
// be atomic.
const socketBuffer = 16 << 20

// Firewall is the table in the kernel. It is safe for concurrent use.
type Firewall struct {
	mu    sync.Mutex // guards all below
	rules Rules
	known bool // the kernel holds the rules
}

// New makes a firewall of which nothing is in the kernel yet. relay is that of Rules.
func New(relay netip.Addr) *Firewall { return &Firewall{rules: Rules{Relay: relay}.clone()} }

// Update changes the rules and brings them to the kernel in one transaction. If that fails, nothing has changed.
func (f *Firewall) Update(change func(*Rules)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.rules.clone()
	change(&next)
	if !f.known || next.NoLoopback != f.rules.NoLoopback || amend(f.rules, next) != nil {
		f.known = false
		if err := rebuild(next); err != nil {
			return err
		}
	}
	f.rules, f.known = next, true
	return nil
}

// Rebuild replaces the whole table by one made of the rules, in one transaction.
func (f *Firewall) Rebuild() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := rebuild(f.rules)
	f.known = err == nil
	return err
}

// Remove takes the table out of the kernel.
func (f *Firewall) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = false
	c, err := Connect()
	if err != nil {
		return err
	}
	c.AddTable(table()) // so that deleting it cannot fail
	c.DelTable(table())
	return wrap(c.Flush())
}

// amend sends what distinguishes two states.
func amend(have, want Rules) error {
	c, err := Connect()
	if err != nil {
		return err
	}
	added, removed := diff(have, want)
	for _, s := range sets(table()) {
		if err := setDelete(c, s, removed[s.Name]); err != nil {
			return err
		}
		if err := setAdd(c, s, added[s.Name]); err != nil {
			return err
		}
	}
	return c.Flush()
}

func rebuild(want Rules) error { return Retry(func() error { return rebuildOnce(want) }) }

func rebuildOnce(want Rules) error {
	c, err := Connect()
	if err != nil {
		return err
	}
	c.AddTable(table()) // so that deleting it cannot fail
	c.DelTable(table())
	t := c.AddTable(table())
	added, _ := diff(Rules{}, want)
	for _, s := range sets(t) {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
		if err := setAdd(c, s, added[s.Name]); err != nil {
			return err
		}
	}
	addChains(c, t, want)
	return wrap(c.Flush())
}

// Droppers names the chains of other tables that drop, by their policy, what nobody accepts of forwarded packets. What this
// table accepts, they may still drop. Those of iptables' old interface are not seen.
func Droppers() ([]string, error) {
	c, err := Connect()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, wrap(err)
	}
	var names []string
	for _, ch := range chains {
		forward := ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward
		drops := ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop
		ip := ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyINet
		if forward && drops && ip && ch.Table.Name != TableName {
			names = append(names, ch.Table.Name+" "+ch.Name)
		}
	}
	return names, nil
}

func table() *nftables.Table {
	return &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
}

// answerLimit is how long the kernel may take for a transaction, the modules it loads included; maxTries is how often it is asked.
const (
	answerLimit = 10 * time.Second
	maxTries    = 3
)

// Retry does a transaction again when the kernel does not answer: it begins one anew when it has to load a module for it, and an answer
// may be lost by that. It is for what does no harm when it is done twice.
func Retry(transaction func() error) error {
	err := transaction()
	for tries := 1; tries < maxTries && errors.Is(err, os.ErrDeadlineExceeded); tries++ {
		err = transaction()
	}
	return err
}

// Connect speaks to the nftables of the thread's network namespace. Each transaction has a deadline, past which it fails with
// os.ErrDeadlineExceeded.
func Connect() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		deadline := c.SetDeadline(time.Now().Add(answerLimit))
		// Without the right to exceed the system's limit, small transactions still fit.
		return errors.Join(deadline, ignorePermission(c.SetWriteBuffer(socketBuffer)), ignorePermission(c.SetReadBuffer(socketBuffer)))
	}))
}

func ignorePermission(err error) error {
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// wrap says what the kernel lacks, as far as errno tells.
func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("writing the nftables table %q: %w (requires CAP_NET_ADMIN)", TableName, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("writing the nftables table %q: %w (requires Linux >= 5.6 with nf_tables, nft_nat, nft_masq, nft_fib_inet and nft_ct)", TableName, err)
	}
	return fmt.Errorf("writing the nftables table %q: %w", TableName, err)
}

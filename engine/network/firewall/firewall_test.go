package firewall

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

const inside = "BERTH_TEST_NAMESPACE"

// TestMain runs all tests again in a network namespace of their own.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root, for a network namespace")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kernel counts the elements of each set as the kernel has them.
func kernel(t testing.TB) map[string]int {
	t.Helper()
	c, err := Connect()
	must(t, err)
	all, err := c.GetSets(table())
	must(t, err)
	counts := map[string]int{}
	for _, s := range all {
		elements, err := c.GetSetElements(s)
		must(t, err)
		counts[s.Name] = len(elements)
	}
	return counts
}

func check(t testing.TB, want map[string]int) {
	t.Helper()
	got := kernel(t)
	for _, s := range sets(nil) {
		if got[s.Name] != want[s.Name] {
			t.Errorf("%s: the kernel has %d elements; want %d", s.Name, got[s.Name], want[s.Name])
		}
	}
}

func subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
}

// Many networks with adjacent subnets, and as many ports as there are.
func TestUpdate(t *testing.T) {
	needRoot(t)
	f := New(netip.Addr{})
	const bridges, ports = 60, 65535
	must(t, f.Update(func(r *Rules) {
		for i := range bridges {
			r.Bridges[fmt.Sprintf("br-%d", i)] = Bridge{Subnet: subnet(i), Masquerade: i%2 == 0, Internal: i%4 == 0, Isolated: i%3 == 0}
		}
		for p := range ports {
			r.Ports[Port{Proto: unix.IPPROTO_TCP, IP: netip.IPv4Unspecified(), Port: uint16(p + 1)}] = netip.MustParseAddrPort("10.0.0.2:80")
		}
		r.Ports[Port{Proto: unix.IPPROTO_UDP, IP: netip.MustParseAddr("127.0.0.1"), Port: 53}] = netip.MustParseAddrPort("10.0.0.2:53")
		r.Guarded[2376] = struct{}{}
	}))
	full := map[string]int{
		setBridges: bridges, setHairpin: bridges, setSame: bridges - bridges/3, setInternal: bridges / 4, setMasquerade: bridges / 4,
		mapAny: ports, mapOne: 1, setGuarded: 1,
	}
	check(t, full)
	must(t, f.Update(func(r *Rules) { clear(r.Ports) }))
	for i := range bridges { // one by one, as users do
		must(t, f.Update(func(r *Rules) { delete(r.Bridges, fmt.Sprintf("br-%d", bridges-1-i)) }))
	}
	check(t, map[string]int{setGuarded: 1})
	must(t, f.Remove())
}

func TestUpdateRepairs(t *testing.T) {
	needRoot(t)
	f := New(netip.Addr{})
	add := func(name string, i int) {
		t.Helper()
		must(t, f.Update(func(r *Rules) { r.Bridges[name] = Bridge{Subnet: subnet(i), Masquerade: true} }))
	}
	add("one", 1)
	other, err := nftables.New()
	must(t, err)
	other.FlushRuleset()
	must(t, other.Flush())
	add("two", 2)
	check(t, map[string]int{setBridges: 2, setHairpin: 2, setSame: 2, setMasquerade: 2})
	// Another engine's run takes over what this one left.
	must(t, New(netip.Addr{}).Update(func(r *Rules) { r.Bridges["three"] = Bridge{Subnet: subnet(3)} }))
	check(t, map[string]int{setBridges: 1, setHairpin: 1, setSame: 1})
	must(t, f.Remove())
}

// Other tables are left alone.
func TestOtherTablesStay(t *testing.T) {
	needRoot(t)
	c, err := nftables.New()
	must(t, err)
	mine := c.AddTable(&nftables.Table{Name: "mine", Family: nftables.TableFamilyINet})
	must(t, c.Flush())
	f := New(netip.Addr{})
	must(t, f.Update(func(r *Rules) { r.Guarded[1] = struct{}{} }))
	must(t, f.Rebuild())
	must(t, f.Remove())
	tables, err := c.ListTables()
	must(t, err)
	if len(tables) != 1 || tables[0].Name != mine.Name {
		t.Errorf("got %v", tables)
	}
	c.DelTable(mine)
	must(t, c.Flush())
}

package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Driver options of bridge networks, by Docker's names.
const (
	optPrefix      = "com.docker.network."
	optBridgeName  = optPrefix + "bridge.name"
	optICC         = optPrefix + "bridge.enable_icc"
	optMasquerade  = optPrefix + "bridge.enable_ip_masquerade"
	optHostBinding = optPrefix + "bridge.host_binding_ipv4"
	optDefault     = optPrefix + "bridge.default_bridge"
	optInhibitIPv4 = optPrefix + "bridge.inhibit_ipv4"
	optGatewayMode = optPrefix + "bridge.gateway_mode_ipv4"
	optMTU         = optPrefix + "driver.mtu"
	optIfPrefix    = optPrefix + "container_iface_prefix"
	optIPv4        = optPrefix + "enable_ipv4"
	optIPv6        = optPrefix + "enable_ipv6"

	optEndpointIfname = optPrefix + "endpoint.ifname"
)

const (
	defaultMTU  = 1500
	maxLinkName = 15 // IFNAMSIZ - 1
)

// bridgeOptions are the options of a bridge network, read.
type bridgeOptions struct {
	bridge      string // empty: named after the network's id
	mtu         int    // 0: the service's
	isolated    bool   // containers do not reach each other
	masquerade  bool
	inhibitIPv4 bool       // the bridge gets no address
	hostBinding netip.Addr // where ports are published that name no address; not valid: everywhere
	linkPrefix  string
}

func parseOptions(options map[string]string) (bridgeOptions, error) {
	o := bridgeOptions{masquerade: true, linkPrefix: "eth"}
	for name, value := range options {
		if err := o.set(name, value); err != nil {
			return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network option %q: %v", name, err))
		}
	}
	return o, nil
}

func (o *bridgeOptions) set(name, value string) (err error) {
	switch name {
	case optBridgeName:
		o.bridge = value
		if value != "" {
			err = checkLinkName(value)
		}
	case optICC:
		var icc bool
		icc, err = strconv.ParseBool(value)
		o.isolated = !icc
	case optMasquerade:
		o.masquerade, err = strconv.ParseBool(value)
	case optInhibitIPv4:
		o.inhibitIPv4, err = strconv.ParseBool(value)
	case optHostBinding:
		o.hostBinding, err = parseIPv4(value)
		if o.hostBinding.IsUnspecified() {
			o.hostBinding = netip.Addr{}
		}
	case optMTU:
		o.mtu, err = parseMTU(value)
	case optIfPrefix:
		o.linkPrefix = value
		err = checkLinkName(value + "00")
	case optGatewayMode:
		err = only(value, "nat")
	case optIPv4:
		err = onlyBool(value, true)
	case optIPv6:
		err = onlyBool(value, false)
	case optDefault:
		_, err = strconv.ParseBool(value)
	default:
		return fmt.Errorf("not supported")
	}
	return err
}

func only(value, supported string) error {
	if value != "" && value != supported {
		return fmt.Errorf("%q is not supported, only %q", value, supported)
	}
	return nil
}

func onlyBool(value string, supported bool) error {
	b, err := strconv.ParseBool(value)
	if err == nil && b != supported {
		err = fmt.Errorf("%q is not supported", value)
	}
	return err
}

func parseIPv4(value string) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err == nil && !a.Is4() {
		err = fmt.Errorf("%q is not an IPv4 address", value)
	}
	return a, err
}

func parseMTU(value string) (int, error) {
	const least, most = 68, 65535 // RFC 791; what an Ethernet device of the kernel takes
	n, err := strconv.Atoi(value)
	if err == nil && n != 0 && (n < least || n > most) {
		err = fmt.Errorf("%d is not between %d and %d", n, least, most)
	}
	return n, err
}

// checkLinkName holds the name of an interface to the kernel's rule (dev_valid_name).
func checkLinkName(name string) error {
	if name == "" || len(name) > maxLinkName || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r\x00%") {
		return fmt.Errorf("%q cannot be the name of an interface", name)
	}
	return nil
}

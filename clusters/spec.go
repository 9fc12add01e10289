package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Spec is what a cluster is, decided once when it is made and kept in its folder.
type Spec struct {
	Name   string
	Folder string
	// Only an API server with its controllers: no node, no namespaces, on 127.0.0.1.
	OnlyAPI bool
	// The cluster's number on this machine; 0 without a node.
	Index int
	// Where the API server is reached, by this machine and by every pod of connected clusters.
	Address      netip.Addr
	Port         int
	EtcdPort     int
	EtcdPeerPort int
	PodRange     netip.Prefix
	ServiceRange netip.Prefix
	Audit        bool
	// OCI archives the node starts with.
	Images []string
}

const (
	domain = "cluster.local"
	// Every cluster's node, load balancers and router leg are in one /24 of this.
	nodeNetwork = "10.213"
	mostIndexes = 40
)

func (s *Spec) path(parts ...string) string {
	return filepath.Join(append([]string{s.Folder}, parts...)...)
}

func (s *Spec) kubeconfig() string { return s.path("kubeconfig") }

func (s *Spec) nodeName() string { return s.Name + "-node" }

// netns names the node's network namespace. The number keeps equal names of two checkouts apart.
func (s *Spec) netns() string { return fmt.Sprintf("cluster%d-%s", s.Index, s.Name) }

func (s *Spec) cgroup() string { return "/catamaran-clusters/" + s.netns() }

// hostIn is the address that many steps into a range.
func hostIn(of netip.Prefix, steps int) netip.Addr {
	address := of.Masked().Addr()
	for range steps {
		address = address.Next()
	}
	return address
}

func (s *Spec) apiServiceAddress() netip.Addr { return hostIn(s.ServiceRange, 1) }

func (s *Spec) dnsAddress() netip.Addr { return hostIn(s.ServiceRange, 10) }

var clusterName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`)

// decide reads up's arguments. The number of a cluster with a node is taken from this machine's free ones later.
func decide(args []string) (*Spec, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		if len(args) == 0 || (args[0] != "--help" && args[0] != "-h") {
			return nil, errors.New("up takes the cluster's folder first, then flags")
		}
		args = append([]string{"help"}, args...)
	}
	flags := flag.NewFlagSet("up FOLDER", flag.ExitOnError)
	only := flags.String("only", "", "`api`: an API server with its controllers on 127.0.0.1, and no node; needs no root")
	pods := flags.String("pod-range", "", "pods' addresses (default: a /16 no other cluster here has)")
	services := flags.String("service-range", "", "services' addresses (default: a /16 no other cluster here has)")
	audit := flags.Bool("audit", false, "write who asked the API server for what to FOLDER/audit.log")
	var images []string
	flags.Func("image", "an OCI `archive` whose images the node has from the start; may be given again", func(path string) error {
		full, err := filepath.Abs(path)
		images = append(images, full)
		return err
	})
	_ = flags.Parse(args[1:])
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("up takes one folder, and no %q", flags.Arg(0))
	}
	folder, err := filepath.Abs(args[0])
	if err != nil {
		return nil, err
	}
	spec := &Spec{Name: filepath.Base(folder), Folder: folder, Audit: *audit, Images: images}
	if !clusterName.MatchString(spec.Name) {
		return nil, fmt.Errorf("a cluster's name is of small letters, digits and dashes, at most 30, unlike %q", spec.Name)
	}
	switch *only {
	case "":
	case "api":
		spec.OnlyAPI = true
	default:
		return nil, fmt.Errorf("--only takes api, not %q", *only)
	}
	for _, each := range []struct {
		flag, value string
		into        *netip.Prefix
	}{{"--pod-range", *pods, &spec.PodRange}, {"--service-range", *services, &spec.ServiceRange}} {
		if each.value == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(each.value)
		if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 24 || prefix.Bits() < 8 || prefix != prefix.Masked() {
			return nil, fmt.Errorf("%s takes an IPv4 range of /8 to /24, as 10.96.0.0/16, not %q", each.flag, each.value)
		}
		*each.into = prefix
	}
	return spec, nil
}

// settle fills what was left open, now that the number is known.
func (s *Spec) settle() error {
	nodes := netip.MustParsePrefix(nodeNetwork + ".0.0/16")
	if !s.PodRange.IsValid() {
		s.PodRange = netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 110+s.Index))
	}
	if !s.ServiceRange.IsValid() {
		s.ServiceRange = netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 160+s.Index))
	}
	if s.PodRange.Overlaps(s.ServiceRange) || s.PodRange.Overlaps(nodes) || s.ServiceRange.Overlaps(nodes) {
		return fmt.Errorf("pods %v, services %v and the nodes' %v must be apart", s.PodRange, s.ServiceRange, nodes)
	}
	if !s.OnlyAPI {
		s.Address = netip.MustParseAddr(fmt.Sprintf("%s.%d.2", nodeNetwork, s.Index))
		s.Port, s.EtcdPort, s.EtcdPeerPort = 6443, 2379, 2380
		return nil
	}
	s.Address = netip.MustParseAddr("127.0.0.1")
	for _, port := range []*int{&s.Port, &s.EtcdPort, &s.EtcdPeerPort} {
		// Held open until the function ends, so that the three differ.
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	return nil
}

func (s *Spec) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("spec.json"), append(text, '\n'), 0o644)
}

func loadSpec(folder string) (*Spec, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(folder, "spec.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no cluster in %s", folder)
	}
	if err != nil {
		return nil, err
	}
	spec := &Spec{}
	if err := json.Unmarshal(text, spec); err != nil {
		return nil, fmt.Errorf("%s/spec.json: %w", folder, err)
	}
	return spec, nil
}

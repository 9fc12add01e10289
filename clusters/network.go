package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The machine's clusters meet in one router, a network namespace of its own. It has a leg to every cluster's node and one to the
// machine itself. From the machine it lets everything pass, between clusters only what `connect` allowed.
//
//	machine 10.213.0.1 -- 10.213.0.2 router 10.213.N.1 -- 10.213.N.2 node of cluster N, and its load balancers 10.213.N.100..199
const (
	router     = "catamaran-router"
	hostLink   = "catamaran0"
	hostAddr   = nodeNetwork + ".0.1"
	routerAddr = nodeNetwork + ".0.2"
	// One file for every cluster with a node on this machine, named by its number, holding its folder.
	registry = "/run/catamaran-clusters"
)

const routerRules = `table inet clusters {
	set linked {
		type ifname . ifname
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		iifname "host" accept
		oifname "host" ct state established,related accept
		iifname . oifname @linked accept
	}
}
`

// nodeRules hide pods behind their node where nobody knows the way to them. `flat` has the pods of clusters that do.
func nodeRules(pods netip.Prefix) string {
	return fmt.Sprintf(`table ip clusters {
	set flat {
		type ipv4_addr
		flags interval
	}
	chain postrouting {
		type nat hook postrouting priority srcnat + 10;
		ip saddr %s oifname "eth0" ip daddr != @flat masquerade
	}
}
`, pods)
}

func legAddr(index int) string { return fmt.Sprintf("%s.%d.1", nodeNetwork, index) }

func leg(index int) string { return fmt.Sprintf("leg%d", index) }

// command runs a program of the machine and makes an error of what it says.
func command(input, program string, args ...string) error {
	run := exec.Command(program, args...)
	run.Stdin = strings.NewReader(input)
	output, err := run.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// commands runs lines of `ip` in turn.
func ip(lines ...string) error {
	for _, line := range lines {
		if err := command("", "ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

func nft(netns, rules string) error {
	return command(rules, "ip", "netns", "exec", netns, "nft", "-f", "-")
}

// alone runs a change of what all clusters share while no other process changes it.
func alone(change func() error) error {
	if err := os.MkdirAll(registry, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(registry+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return change()
}

// takeIndex gives the cluster the smallest number that no other has.
func takeIndex(s *Spec) error {
	if os.Getuid() != 0 {
		return errors.New("a cluster with a node makes namespaces, so it needs root; --only api does not")
	}
	return alone(func() error {
		for index := 1; index <= mostIndexes; index++ {
			file := filepath.Join(registry, strconv.Itoa(index))
			if folder, err := os.ReadFile(file); err == nil {
				if _, err := os.Stat(filepath.Join(string(folder), "spec.json")); err == nil {
					continue
				}
				// Its folder was deleted under it.
				if err := removeNode(&Spec{Index: index, Name: "gone", Folder: string(folder)}); err != nil {
					return err
				}
			}
			s.Index = index
			if err := os.WriteFile(file, []byte(s.Folder), 0o644); err != nil {
				return err
			}
			// Whoever ends it finds it from here on.
			return s.save()
		}
		return fmt.Errorf("there are %d clusters on this machine already", mostIndexes)
	})
}

// wire makes the node's namespace and its way to the router, and the router if it is the first.
func wire(s *Spec) error {
	return alone(func() error {
		if _, err := os.Stat("/run/netns/" + router); err != nil {
			if err := ip(
				"netns add "+router,
				"-n "+router+" link set lo up",
				"link add "+hostLink+" type veth peer name host netns "+router,
				"addr add "+hostAddr+"/30 dev "+hostLink,
				"-n "+router+" addr add "+routerAddr+"/30 dev host",
				"link set "+hostLink+" up",
				"-n "+router+" link set host up",
				"route add "+nodeNetwork+".0.0/16 via "+routerAddr,
			); err != nil {
				return err
			}
			if err := command("", "ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1"); err != nil {
				return err
			}
			if err := nft(router, routerRules); err != nil {
				return err
			}
		}
		node, link := s.netns(), leg(s.Index)
		if err := ip(
			"netns add "+node,
			"-n "+node+" link set lo up",
			"-n "+router+" link add "+link+" type veth peer name eth0 netns "+node,
			"-n "+router+" addr add "+legAddr(s.Index)+"/32 dev "+link,
			"-n "+router+" link set "+link+" up",
			"-n "+node+" addr add "+s.Address.String()+"/32 dev eth0",
			"-n "+node+" link set eth0 up",
			"-n "+node+" route add default via "+legAddr(s.Index)+" dev eth0 onlink",
			"-n "+router+" route add "+s.Address.String()+" dev "+link,
			fmt.Sprintf("-n %s route add %s.%d.0/24 via %s dev %s onlink", router, nodeNetwork, s.Index, s.Address, link),
		); err != nil {
			return err
		}
		if err := command("", "ip", "netns", "exec", node, "sysctl", "-qw", "net.ipv4.ip_forward=1"); err != nil {
			return err
		}
		return nft(node, nodeRules(s.PodRange))
	})
}

// within starts a process in a network namespace; this one stays where it is.
func within(netns string, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := os.Open("/run/netns/" + netns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	started := start()
	if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return started
}

// unwire removes what wire made; the last cluster takes the router along.
func unwire(s *Spec) error {
	return alone(func() error {
		if s.Index == 0 {
			return nil
		}
		own, err := filepath.Glob(fmt.Sprintf("/run/netns/cluster%d-*", s.Index))
		if err != nil {
			return err
		}
		for _, netns := range own {
			if err := ip("netns del " + filepath.Base(netns)); err != nil {
				return err
			}
		}
		if _, err := os.Stat("/run/netns/" + router); err == nil {
			// Its end in the node's namespace is gone, but the kernel may not have come to this one yet.
			_ = ip("-n " + router + " link del " + leg(s.Index))
			if err := unlink(s.Index); err != nil {
				return err
			}
		}
		if err := os.Remove(filepath.Join(registry, strconv.Itoa(s.Index))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		rest, err := os.ReadDir(registry)
		if err != nil || len(rest) > 0 {
			return err
		}
		if _, err := os.Stat("/run/netns/" + router); err == nil {
			_ = ip("link del " + hostLink)
			if err := ip("netns del " + router); err != nil {
				return err
			}
		}
		return os.Remove(registry)
	})
}

// linked are the pairs of legs that the router lets pass, each in one direction.
func linked() ([][2]string, error) {
	output, err := exec.Command("ip", "netns", "exec", router, "nft", "-j", "list", "set", "inet", "clusters", "linked").Output()
	if err != nil {
		return nil, fmt.Errorf("the router's rules cannot be read: %w", err)
	}
	return readLinked(output)
}

// unlink forgets every pair with this cluster.
func unlink(index int) error {
	pairs, err := linked()
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		if pair[0] == leg(index) || pair[1] == leg(index) {
			if err := nft(router, fmt.Sprintf("delete element inet clusters linked { %q . %q }\n", pair[0], pair[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func two(args []string, flagName string) (a, b *Spec, flagged bool, err error) {
	var folders []string
	for _, arg := range args {
		switch {
		case arg == flagName:
			flagged = true
		case strings.HasPrefix(arg, "-"):
			return nil, nil, false, fmt.Errorf("there is no flag %s here, only %s", arg, flagName)
		default:
			folders = append(folders, arg)
		}
	}
	if len(folders) != 2 {
		return nil, nil, false, errors.New("name two clusters by their folders")
	}
	if a, err = loadSpec(folders[0]); err != nil {
		return nil, nil, false, err
	}
	if b, err = loadSpec(folders[1]); err != nil {
		return nil, nil, false, err
	}
	for _, each := range []*Spec{a, b} {
		if each.OnlyAPI {
			return nil, nil, false, fmt.Errorf("cluster %s has no node", each.Name)
		}
	}
	if a.Index == b.Index {
		return nil, nil, false, errors.New("name two different clusters")
	}
	return a, b, flagged, nil
}

// connect lets the nodes of two clusters reach each other, so also their API servers, node ports and load balancers.
func connect(args []string) error {
	a, b, flat, err := two(args, "--flat")
	if err != nil {
		return err
	}
	if flat && a.PodRange.Overlaps(b.PodRange) {
		return fmt.Errorf("pods of %s (%v) and %s (%v) have the same addresses, so no router can tell them apart", a.Name, a.PodRange, b.Name, b.PodRange)
	}
	return alone(func() error {
		rules := fmt.Sprintf("add element inet clusters linked { %[1]q . %[2]q, %[2]q . %[1]q }\n", leg(a.Index), leg(b.Index))
		if err := nft(router, rules); err != nil {
			return err
		}
		if !flat {
			return nil
		}
		for _, pair := range [][2]*Spec{{a, b}, {b, a}} {
			from, to := pair[0], pair[1]
			if err := ip(fmt.Sprintf("-n %s route replace %s via %s dev %s onlink", router, to.PodRange, to.Address, leg(to.Index))); err != nil {
				return err
			}
			if err := nft(from.netns(), fmt.Sprintf("add element ip clusters flat { %s }\n", to.PodRange)); err != nil {
				return err
			}
		}
		return nil
	})
}

// cut drops what goes between two clusters, packets of open connections too: nobody is told, as when a cable breaks.
func cut(args []string) error {
	a, b, oneWay, err := two(args, "--one-way")
	if err != nil {
		return err
	}
	return alone(func() error {
		pairs, err := linked()
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			there := pair == [2]string{leg(a.Index), leg(b.Index)}
			back := pair == [2]string{leg(b.Index), leg(a.Index)}
			if there || (back && !oneWay) {
				if err := nft(router, fmt.Sprintf("delete element inet clusters linked { %q . %q }\n", pair[0], pair[1])); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// readLinked reads the pairs out of nft's JSON.
func readLinked(output []byte) ([][2]string, error) {
	var listing struct {
		Nftables []struct {
			Set *struct {
				Elem []struct {
					Concat [2]string `json:"concat"`
				} `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(output, &listing); err != nil {
		return nil, fmt.Errorf("the router's rules cannot be read: %w", err)
	}
	var pairs [][2]string
	for _, entry := range listing.Nftables {
		if entry.Set == nil {
			continue
		}
		for _, element := range entry.Set.Elem {
			pairs = append(pairs, element.Concat)
		}
	}
	return pairs, nil
}

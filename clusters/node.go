package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// PauseImage is what holds a pod's namespaces; `cargo xtask image` makes it.
const PauseImage = "catamaran.dev/pause:1"

const (
	containerdSocket = "/run/containerd/containerd.sock"
	pluginFolder     = "/usr/lib/cni"
)

// What the kubelet wants the whole machine to be set to. In the node's mounts the files say so already, so that it leaves the
// machine's settings alone.
var kernelSettings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// startNode starts a command as the first process of a node: network, mounts, processes and name are its own. When that process
// ends the kernel ends all of the node's, and with the last of them go the mounts.
func startNode(s *Spec, command *exec.Cmd) error {
	for program, hint := range map[string]string{
		"containerd": "containerd", "runc": "runc", pluginFolder + "/ptp": "containernetworking-plugins", "nft": "nftables",
		"ip": "iproute2", "nsenter": "util-linux", "mount": "mount",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("a node needs %s; install the Debian package %s, or call `cargo xtask cluster up`, which does it", program, hint)
		}
	}
	if err := wire(s); err != nil {
		return err
	}
	if err := makeCgroups(s); err != nil {
		return err
	}
	command.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC
	return within(s.netns(), command.Start)
}

// initNode is the first process of a node. It makes the node's mounts, starts `run`, and buries whoever is left without a parent.
func initNode(args []string) error {
	if len(args) != 1 || os.Getpid() != 1 {
		return errors.New("init is called by up only")
	}
	s, err := loadSpec(args[0])
	if err != nil {
		return err
	}
	if err := mountNode(s); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	child, err := syscall.ForkExec(own, []string{own, "run", s.Folder}, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if pid == child {
			return fmt.Errorf("the cluster's keeper ended (%d)", status.ExitStatus())
		}
	}
}

func mountNode(s *Spec) error {
	if err := syscall.Sethostname([]byte(s.nodeName())); err != nil {
		return err
	}
	for _, hidden := range []string{"/run/", "/var/lib/", "/var/log/", "/proc/", "/sys/"} {
		if strings.HasPrefix(s.Folder+"/", hidden) {
			return fmt.Errorf("a cluster's folder cannot be in %s, which the node has its own of", hidden)
		}
	}
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	// Nothing of what follows reaches the machine's mounts, but pods may share mounts with the node.
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for _, folder := range []string{"/run", "/var/lib", "/var/log"} {
		if err := mount("tmpfs", folder, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
	}
	// The machine's DNS is out of reach, so nobody should wait for it.
	if err := os.WriteFile(s.path("resolv.conf"), nil, 0o644); err != nil {
		return err
	}
	if exists("/etc/resolv.conf") {
		if err := mount(s.path("resolv.conf"), "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	settings := s.path("settings")
	for name, value := range kernelSettings {
		file := filepath.Join(settings, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := mount(file, "/proc/sys/"+name, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// hierarchies are the machine's cgroup trees: several with version 1, one with version 2.
func hierarchies() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, line := range strings.Split(string(text), "\n") {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if ok && len(fields) > 4 && (strings.HasPrefix(after, "cgroup ") || strings.HasPrefix(after, "cgroup2 ")) {
			found = append(found, fields[4])
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroups are mounted on this machine")
	}
	return found, nil
}

// makeCgroups makes the cgroup all pods of the cluster are in.
func makeCgroups(s *Spec) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		parent := tree
		for _, name := range strings.Split(strings.Trim(s.cgroup(), "/"), "/") {
			folder := filepath.Join(parent, name)
			if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			// A new cpuset of version 1 has no processors and takes no process.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				text, err := os.ReadFile(filepath.Join(parent, file))
				if err != nil || !exists(filepath.Join(tree, "cpuset.sched_load_balance")) {
					continue
				}
				if err := os.WriteFile(filepath.Join(folder, file), text, 0o644); err != nil {
					return err
				}
			}
			// Version 2 hands controllers down only on request.
			if all, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers")); err == nil && len(strings.Fields(string(all))) > 0 {
				wanted := "+" + strings.Join(strings.Fields(string(all)), " +")
				if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte(wanted), 0o644); err != nil {
					return err
				}
			}
			parent = folder
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// removeCgroups removes a cluster's cgroups, whose processes have ended.
func removeCgroups(index int) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		top := filepath.Join(tree, "catamaran-clusters")
		own, err := filepath.Glob(filepath.Join(top, fmt.Sprintf("cluster%d-*", index)))
		if err != nil {
			return err
		}
		for _, folder := range own {
			var inside []string
			if err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					inside = append(inside, path)
				}
				return err
			}); err != nil {
				return err
			}
			for i := len(inside) - 1; i >= 0; i-- {
				// A process that was just killed stays for a moment.
				for try := 0; ; try++ {
					err := syscall.Rmdir(inside[i])
					if err == nil || err == syscall.ENOENT {
						break
					}
					if err != syscall.EBUSY || try == 500 {
						return fmt.Errorf("%s: %w", inside[i], err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		}
		// Another cluster may still be in it.
		if err := syscall.Rmdir(top); err != nil && err != syscall.ENOENT && err != syscall.EBUSY && err != syscall.ENOTEMPTY {
			return fmt.Errorf("%s: %w", top, err)
		}
	}
	return nil
}

// removeNode removes what the kernel does not remove by itself when a node's last process ends.
func removeNode(s *Spec) error {
	if s.Index == 0 {
		return nil
	}
	if err := removeCgroups(s.Index); err != nil {
		return err
	}
	return unwire(s)
}

func containerdConfig(s *Spec) string {
	return fmt.Sprintf(`version = 2
root = %q
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
`, s.path("containerd"), containerdSocket, PauseImage, pluginFolder, s.path("cni"))
}

// podNetwork gives each pod a cable of its own to the node: no bridge, so that what two pods of the node say to each other also
// passes the node's rules for services.
func podNetwork(s *Spec) string {
	return fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "ptp",
    "ipMasq": false,
    "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
  }]
}
`, s.path("addresses"), s.PodRange)
}

func kubeletConfig(s *Spec) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]q}
authorization: {mode: Webhook}
tlsCertFile: %[2]q
tlsPrivateKeyFile: %[3]q
clusterDomain: %[4]s
clusterDNS: [%[5]q]
resolvConf: %[6]q
containerRuntimeEndpoint: unix://%[7]s
cgroupDriver: cgroupfs
cgroupRoot: %[8]s
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
podLogsDir: /var/log/pods
volumePluginDir: %[9]q
# A full disk is the machine's owner's business, not the tests'.
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
serializeImagePulls: false
# Volumes and probes of a pod that is new are looked at once in this time at the latest.
syncFrequency: 10s
nodeStatusUpdateFrequency: 5s
kubeAPIQPS: 100
kubeAPIBurst: 200
maxPods: 250
podPidsLimit: -1
`, s.path("pki", "ca.crt"), s.path("pki", "kubelet.crt"), s.path("pki", "kubelet.key"), domain, s.dnsAddress(), s.path("resolv.conf"),
		containerdSocket, s.cgroup(), s.path("kubelet", "plugins-of-volumes"))
}

// proxyConfig leaves the sizes of connection tracking alone: they are the machine's.
func proxyConfig(s *Spec) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %s
clientConnection: {kubeconfig: %q}
clusterCIDR: %s
detectLocalMode: ClusterCIDR
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, udpTimeout: 0s, udpStreamTimeout: 0s}
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
`, s.nodeName(), s.path("pki", "kube-proxy.conf"), s.PodRange)
}

// corefile answers for the cluster's names only. There is no DNS beyond them on such a machine; a name outside does not exist.
func corefile(s *Spec) string {
	return fmt.Sprintf(`.:53 {
    bind %[1]s
    errors
    ready 127.0.0.1:8181
    kubernetes %[2]s in-addr.arpa ip6.arpa {
        kubeconfig %[3]s
        pods insecure
        ttl 5
    }
    cache 5
    loadbalance
    reload 2s
}
`, s.Address, domain, s.path("pki", "coredns.conf"))
}

// startRuntime starts what a node needs of the machine and gives it its images, while the API server still starts.
func startRuntime(ctx context.Context, k *keeper) error {
	s := k.spec
	for _, folder := range []string{"cni", "addresses", "kubelet", "containerd"} {
		if err := os.MkdirAll(s.path(folder), 0o755); err != nil {
			return err
		}
	}
	for file, text := range map[string]string{
		s.path("containerd.toml"):      containerdConfig(s),
		s.path("cni", "pods.conflist"): podNetwork(s),
		s.path("kubelet.yaml"):         kubeletConfig(s),
		s.path("kube-proxy.yaml"):      proxyConfig(s),
		s.path("Corefile"):             corefile(s),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := k.keep(part{name: "containerd", program: "containerd", args: []string{"--config", s.path("containerd.toml")}}); err != nil {
		return err
	}
	if err := until(ctx, "containerd does not answer", func(ctx context.Context) error {
		output, err := exec.CommandContext(ctx, "ctr", "--address", containerdSocket, "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	}); err != nil {
		return err
	}
	return importImages(s.Images)
}

func importImages(archives []string) error {
	for _, archive := range archives {
		if err := command("", "ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// startWork starts what needs an API server that is ready, and waits until pods can run.
func startWork(ctx context.Context, k *keeper, client *kubernetes.Clientset) error {
	s := k.spec
	if err := offerDNS(ctx, s, client); err != nil {
		return err
	}
	for _, each := range []part{
		{name: "kubelet", args: []string{
			"--config=" + s.path("kubelet.yaml"),
			"--kubeconfig=" + s.path("pki", "kubelet.conf"),
			"--root-dir=" + s.path("kubelet"),
			"--hostname-override=" + s.nodeName(),
			"--node-ip=" + s.Address.String(),
		}},
		{name: "kube-proxy", args: []string{"--config=" + s.path("kube-proxy.yaml")}},
		{name: "coredns", args: []string{"-conf", s.path("Corefile")}},
	} {
		if err := k.keep(each); err != nil {
			return err
		}
	}
	k.all.Add(1)
	go func() {
		defer k.all.Done()
		balance(k.context, s, client)
	}()
	return until(ctx, "the node is not ready", func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, s.nodeName(), meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, taint := range node.Spec.Taints {
			if taint.Key == core.TaintNodeNotReady {
				return errors.New("it is still marked as not ready")
			}
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
				return dnsReady(ctx, s)
			} else if condition.Type == core.NodeReady {
				return errors.New(condition.Message)
			}
		}
		return errors.New("the kubelet has not told yet")
	})
}

// enter is how a command gets to where a node lives.
func enter(s *Spec) ([]string, error) {
	found, running := runningIn(s.Folder)
	if !running {
		return nil, fmt.Errorf("cluster %s does not run", s.Name)
	}
	if s.OnlyAPI {
		return nil, fmt.Errorf("cluster %s has no node", s.Name)
	}
	return []string{"nsenter", "--target", strconv.Itoa(found.pid), "--mount", "--pid", "--net", "--uts", "--ipc"}, nil
}

func load(args []string) error {
	if len(args) < 2 {
		return errors.New("load takes the cluster's folder and OCI archives")
	}
	s, err := loadSpec(args[0])
	if err != nil {
		return err
	}
	way, err := enter(s)
	if err != nil {
		return err
	}
	for _, archive := range args[1:] {
		full, err := filepath.Abs(archive)
		if err != nil {
			return err
		}
		line := append(way[1:], "ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", full)
		if err := command("", way[0], line...); err != nil {
			return err
		}
	}
	return nil
}

func shell(args []string) error {
	if len(args) < 1 {
		return errors.New("shell takes the cluster's folder, and a command if it is not to be a shell")
	}
	s, err := loadSpec(args[0])
	if err != nil {
		return err
	}
	way, err := enter(s)
	if err != nil {
		return err
	}
	wanted := args[1:]
	if len(wanted) > 0 && wanted[0] == "--" {
		wanted = wanted[1:]
	}
	if len(wanted) == 0 {
		wanted = []string{"bash"}
	}
	program, err := exec.LookPath(way[0])
	if err != nil {
		return err
	}
	env := append(os.Environ(), "KUBECONFIG="+s.kubeconfig(), "CONTAINERD_ADDRESS="+containerdSocket, "CONTAINERD_NAMESPACE=k8s.io")
	return syscall.Exec(program, append(way, wanted...), env)
}

// signalPart sends a signal to a part. A stopped API server is one that hangs, a killed one comes back after a second.
func signalPart(args []string) error {
	if len(args) != 3 {
		return errors.New("signal takes the cluster's folder, a part and a signal")
	}
	s, err := loadSpec(args[0])
	if err != nil {
		return err
	}
	pid, err := os.ReadFile(s.path("pids", filepath.Base(args[1])))
	if err != nil {
		return fmt.Errorf("cluster %s has no part %q", s.Name, args[1])
	}
	kill := []string{"kill", "-s", strings.TrimPrefix(args[2], "SIG"), string(pid)}
	if !s.OnlyAPI {
		way, err := enter(s)
		if err != nil {
			return err
		}
		kill = append(way, kill...)
	}
	return command("", kill[0], kill[1:]...)
}

func list(args []string) error {
	if len(args) != 0 {
		return errors.New("list takes nothing")
	}
	entries, err := os.ReadDir(registry)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		folder, err := os.ReadFile(filepath.Join(registry, entry.Name()))
		if err != nil {
			return err
		}
		s, err := loadSpec(string(folder))
		if err != nil {
			fmt.Printf("%s\tleft over: %v\n", entry.Name(), err)
			continue
		}
		state := "ended"
		if _, running := runningIn(s.Folder); running {
			state = "runs"
		}
		fmt.Printf("%s\t%s\tnode %v, network namespace %s\tpods %v\tservices %v\t%s\n",
			s.Name, state, s.Address, s.netns(), s.PodRange, s.ServiceRange, s.kubeconfig())
	}
	return nil
}

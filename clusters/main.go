// Clusters runs real Kubernetes clusters for tests on one machine: the components of Kubernetes and etcd in one program,
// and around them what a machine gives a node: namespaces, addresses, a container runtime.
//
// `cargo xtask cluster` calls it; README.md beside this file says how to call it by hand.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const usage = `Usage: clusters COMMAND [ARGS]

  up FOLDER [FLAGS]        start a cluster whose state, logs and kubeconfig are in FOLDER; its name is the folder's (see: up --help)
  down FOLDER              end it and take away all it made on this machine; only FOLDER/log stays
  list                     the clusters of this machine that have a node
  connect A B [--flat]     let the nodes of two clusters (folders) reach each other; with --flat their pods too
  cut A B [--one-way]      end that, for open connections too; --one-way drops only what goes from A to B
  signal FOLDER PART SIG   send a signal (STOP, CONT, KILL, ..) to one part of a cluster, as kube-apiserver; a killed part is started anew
  load FOLDER ARCHIVE..    give a cluster's node images out of OCI archives
  shell FOLDER [COMMAND..] run a command where the cluster's node lives: its network, mounts and processes

Components, each with the flags of its own: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, coredns;
and kubectl of the same version, which this program also is when it is called by that name.
`

func main() {
	if filepath.Base(os.Args[0]) == "kubectl" {
		os.Exit(components["kubectl"]())
	}
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	name, args := os.Args[1], os.Args[2:]
	if component, ok := components[name]; ok {
		os.Args = append([]string{name}, args...)
		os.Exit(component())
	}
	command, ok := map[string]func([]string) error{
		"up":      up,
		"down":    down,
		"list":    list,
		"connect": connect,
		"cut":     cut,
		"signal":  signalPart,
		"load":    load,
		"shell":   shell,
		// Called by up only.
		"init": initNode,
		"run":  run,
	}[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "error: there is no command %q\n\n%s", name, usage)
		os.Exit(2)
	}
	if err := command(args); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

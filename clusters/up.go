package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// readyWithin is how long a cluster may take to start; a machine with other work needs several times what an idle one does.
const readyWithin = 4 * time.Minute

// up starts a cluster in the background and returns when it is ready.
func up(args []string) error {
	spec, err := decide(args)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, running := runningIn(spec.Folder); running {
		return fmt.Errorf("cluster %s runs already; its kubeconfig is %s", spec.Name, spec.kubeconfig())
	}
	// What a cluster that was not ended well has left.
	if err := down([]string{spec.Folder}); err != nil {
		return err
	}
	for _, earlier := range []string{"log", "audit.log"} {
		if err := os.RemoveAll(spec.path(earlier)); err != nil {
			return err
		}
	}
	for _, folder := range []string{"log", "pids"} {
		if err := os.MkdirAll(spec.path(folder), 0o755); err != nil {
			return err
		}
	}
	if err := start(spec, began); err != nil {
		_ = down([]string{spec.Folder})
		return err
	}
	fmt.Println(spec.kubeconfig())
	return nil
}

func start(spec *Spec, began time.Time) error {
	if !spec.OnlyAPI {
		if err := takeIndex(spec); err != nil {
			return err
		}
	}
	if err := spec.settle(); err != nil {
		return err
	}
	if err := spec.save(); err != nil {
		return err
	}
	if err := makeKeys(spec); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	output, err := os.Create(spec.path("log", "run.log"))
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command(own, "run", spec.Folder)
	command.Stdout, command.Stderr = output, output
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if spec.OnlyAPI {
		err = command.Start()
	} else {
		command.Args[1] = "init"
		err = startNode(spec, command)
	}
	if err != nil {
		return err
	}
	pid := command.Process.Pid
	if err := os.WriteFile(spec.path("pid"), []byte(process{pid, startOf(pid)}.String()), 0o644); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	deadline := time.After(readyWithin)
	for {
		if _, err := os.Stat(spec.path("ready")); err == nil {
			fmt.Fprintf(os.Stderr, "cluster %s is ready after %.1f s\n", spec.Name, time.Since(began).Seconds())
			return nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(spec.path("log", "run.log"))
			return fmt.Errorf("cluster %s did not start; more is in %s\n%s", spec.Name, spec.path("log"), text)
		case <-deadline:
			text, _ := os.ReadFile(spec.path("log", "run.log"))
			return fmt.Errorf("cluster %s is not ready after %v; more is in %s\n%s", spec.Name, readyWithin, spec.path("log"), text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// run keeps a cluster going until it is told to end.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("run takes the cluster's folder")
	}
	spec, err := loadSpec(args[0])
	if err != nil {
		return err
	}
	// A terminal that closes is none of the cluster's business.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	keeper := &keeper{spec: spec, context: ctx}
	defer keeper.all.Wait()
	defer stop()
	if err := startAPI(keeper); err != nil {
		return err
	}
	client, err := spec.client()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if !spec.OnlyAPI {
		if err := startRuntime(limited, keeper); err != nil {
			return err
		}
	}
	if err := serving(limited, client); err != nil {
		return err
	}
	if err := startControllers(keeper); err != nil {
		return err
	}
	if !spec.OnlyAPI {
		if err := startWork(limited, keeper, client); err != nil {
			return err
		}
	}
	if err := settled(limited, client); err != nil {
		return err
	}
	if err := os.WriteFile(spec.path("ready"), nil, 0o644); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// part is one process of a cluster.
type part struct {
	name string
	// A program of this machine; this program itself when empty.
	program string
	args    []string
	env     []string
}

// keeper starts parts, keeps them running, and ends them all.
type keeper struct {
	spec *Spec
	// Ends when the parts should.
	context context.Context
	all     sync.WaitGroup
}

// restartAfter is how long a part that ended stays away.
const restartAfter = time.Second

// keep runs a part until the keeper's context ends. Its output goes to FOLDER/log, its process id to FOLDER/pids.
func (k *keeper) keep(p part) error {
	output, err := os.OpenFile(k.spec.path("log", p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	program := p.program
	args := p.args
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return err
		}
		args = append([]string{p.name}, args...)
	}
	k.all.Add(1)
	go func() {
		defer k.all.Done()
		defer output.Close()
		// The kernel ends a child when the thread that started it ends, so the thread must stay this one.
		runtime.LockOSThread()
		for k.context.Err() == nil {
			command := exec.Command(program, args...)
			command.Stdout, command.Stderr = output, output
			command.Env = append(os.Environ(), p.env...)
			command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := command.Start(); err != nil {
				fmt.Printf("%s could not be started: %v\n", p.name, err)
			} else {
				pid := strconv.Itoa(command.Process.Pid)
				if err := os.WriteFile(k.spec.path("pids", p.name), []byte(pid), 0o644); err != nil {
					fmt.Printf("%s: its process id is not written: %v\n", p.name, err)
				}
				ended := make(chan struct{})
				go func() {
					select {
					case <-k.context.Done():
						// Nothing of a cluster outlives it, so no part has a reason to end slowly.
						_ = command.Process.Kill()
					case <-ended:
					}
				}()
				err := command.Wait()
				close(ended)
				if k.context.Err() == nil {
					fmt.Printf("%s ended (%v); it is started again\n", p.name, err)
				}
			}
			select {
			case <-k.context.Done():
			case <-time.After(restartAfter):
			}
		}
	}()
	return nil
}

// process is a process that is known again: ids are used anew, an id with its start time is not.
type process struct {
	pid   int
	start string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, p.start) }

// startOf reads when a process started, in the kernel's words; empty if there is none, or only its remains.
func startOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, the name, may hold anything, so counting starts behind its bracket.
	rest := text
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == ')' {
			rest = text[i+1:]
			break
		}
	}
	fields := strings.Fields(string(rest))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// runningIn is the process that runs the cluster of a folder, if one does.
func runningIn(folder string) (process, bool) {
	text, err := os.ReadFile(folder + "/pid")
	if err != nil {
		return process{}, false
	}
	var found process
	if _, err := fmt.Sscanf(string(text), "%d %s", &found.pid, &found.start); err != nil {
		return process{}, false
	}
	return found, startOf(found.pid) == found.start
}

// end stops a process and returns when it is gone. `kindly` lets it end its children first.
func (p process) end(kindly bool) error {
	signals := []syscall.Signal{syscall.SIGKILL}
	if kindly {
		signals = []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}
	}
	for _, signal := range signals {
		if startOf(p.pid) != p.start {
			return nil
		}
		if err := syscall.Kill(p.pid, signal); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("process %d: %w", p.pid, err)
		}
		for range 2000 {
			if startOf(p.pid) != p.start {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return fmt.Errorf("process %d does not end", p.pid)
}

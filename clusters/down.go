package main

import (
	"errors"
	"os"
	"path/filepath"
)

// down ends a cluster and removes what it made. Calling it again, or after a crash in the middle, does the rest.
func down(args []string) error {
	if len(args) != 1 {
		return errors.New("down takes the cluster's folder")
	}
	folder, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	spec, missing := loadSpec(folder)
	if missing != nil {
		// Nothing was ever started from here: the spec is written first and removed last.
		return nil
	}
	if found, running := runningIn(folder); running {
		// The first process of a process namespace takes all the others with it.
		if err := found.end(spec.OnlyAPI); err != nil {
			return err
		}
	}
	if !spec.OnlyAPI {
		if err := removeNode(spec); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != "log" && entry.Name() != "audit.log" && entry.Name() != "spec.json" {
			if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(spec.path("spec.json"))
}

package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
)

// listFilter holds the filters of ls: values of one key are alternatives, keys restrict each other.
type listFilter struct {
	swarm, driver, state, label []string
	name                        []*regexp.Regexp
}

func parseFilters(args []string) (listFilter, error) {
	var f listFilter
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return f, errors.New("Unsupported filter syntax") //nolint:staticcheck // docker-machine's words
		}
		switch key := strings.ToLower(key); key {
		case "swarm":
			f.swarm = append(f.swarm, value)
		case "driver":
			f.driver = append(f.driver, value)
		case "state":
			f.state = append(f.state, value)
		case "label":
			f.label = append(f.label, value)
		case "name":
			re, err := regexp.Compile(value)
			if err != nil {
				return f, fmt.Errorf("the filter %s: %w", arg, err)
			}
			f.name = append(f.name, re)
		default:
			return f, fmt.Errorf("Unsupported filter key '%s'", key) //nolint:staticcheck // docker-machine's words
		}
	}
	return f, nil
}

// entries are those that match all but the state, which takes asking.
func (f listFilter) entries(all []hostdb.Entry) []hostdb.Entry {
	var kept []hostdb.Entry
	for _, e := range all {
		if f.matches(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

func (f listFilter) matches(e hostdb.Entry) bool {
	driver := machine.BrokenDriver
	var labels []string
	if e.Machine != nil {
		driver, labels = e.Machine.Driver, engineInfoOf(e.Machine).Labels
	}
	return len(f.swarm) == 0 && // no machine is in a swarm of docker-machine's kind yet
		matchesFold(f.driver, driver) && matchesName(f.name, e.Name) && matchesLabel(f.label, labels)
}

func (f listFilter) matchesState(s drivers.State) bool { return matchesFold(f.state, string(s)) }

func matchesFold(wanted []string, have string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(w, have) })
}

func matchesName(wanted []*regexp.Regexp, name string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

// matchesLabel compares keys exactly and values without regard to case, as docker-machine does; without "=", any value will do.
func matchesLabel(wanted, have []string) bool {
	if len(wanted) == 0 {
		return true
	}
	for _, label := range have {
		key, value, _ := strings.Cut(label, "=")
		for _, w := range wanted {
			wkey, wvalue, both := strings.Cut(w, "=")
			if wkey == key && (!both || strings.EqualFold(wvalue, value)) {
				return true
			}
		}
	}
	return false
}

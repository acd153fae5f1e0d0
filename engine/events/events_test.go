package events

import (
	"fmt"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/engine/filter"
)

func start(name string) events.Message {
	return events.Message{Type: events.ContainerEventType, Action: events.ActionStart,
		Actor: events.Actor{ID: name + "0123456789", Attributes: map[string]string{"name": name, "image": "busybox:1.24"}}}
}

func TestPastAndNextLeaveNoGap(t *testing.T) {
	s := New()
	s.Publish(start("a"))
	past, next, cancel := s.Subscribe(nil)
	defer cancel()
	s.Publish(start("b"))
	if len(past) != 1 || past[0].Actor.Attributes["name"] != "a" {
		t.Errorf("past: %v", past)
	}
	if m := <-next; m.Actor.Attributes["name"] != "b" {
		t.Errorf("next: %v", m)
	}
}

func TestEventsAreStamped(t *testing.T) {
	s := New()
	s.now = func() time.Time { return time.Unix(7, 5) } // a clock that stands still
	s.Publish(start("a"))
	s.Publish(events.Message{Type: events.DaemonEventType})
	past, _, cancel := s.Subscribe(nil)
	defer cancel()
	if past[0].Time != 7 || past[0].TimeNano != 7_000_000_005 || past[0].Scope != "local" {
		t.Errorf("got %+v", past[0])
	}
	if past[1].TimeNano <= past[0].TimeNano {
		t.Error("two events have the same time")
	}
	if past[1].Actor.Attributes == nil {
		t.Error("attributes are null")
	}
}

func TestOnlyTheLastEventsAreKept(t *testing.T) {
	s := New()
	for i := range kept + 10 {
		s.Publish(start(fmt.Sprint(i)))
	}
	past, _, cancel := s.Subscribe(nil)
	defer cancel()
	if len(past) != kept || past[0].Actor.Attributes["name"] != "10" {
		t.Errorf("kept %d events, the first of %s", len(past), past[0].Actor.Attributes["name"])
	}
}

func TestSlowSubscriberIsDropped(t *testing.T) {
	s := New()
	_, next, cancel := s.Subscribe(nil)
	for range buffered + 1 {
		s.Publish(start("a"))
	}
	n := 0
	for range next { // ends since the channel is closed
		n++
	}
	if n != buffered || s.Subscribers() != 0 {
		t.Errorf("got %d events, %d subscribers", n, s.Subscribers())
	}
	cancel()
	cancel()
}

func TestMatch(t *testing.T) {
	exec := start("web")
	exec.Action = "exec_start: sh -c true"
	connect := events.Message{Type: events.NetworkEventType, Action: events.ActionConnect,
		Actor: events.Actor{ID: "net1", Attributes: map[string]string{"name": "front", "container": "web0123456789"}}}
	pull := events.Message{Type: events.ImageEventType, Action: events.ActionPull,
		Actor: events.Actor{ID: "busybox:1.24", Attributes: map[string]string{"name": "busybox"}}}
	for _, test := range []struct {
		filters string
		message events.Message
		want    bool
	}{
		{`{"container":["web"]}`, start("web"), true},
		{`{"container":["web012"]}`, start("web"), true},
		{`{"container":["db"]}`, start("web"), false},
		{`{"container":[""]}`, start("web"), false},
		{`{"container":["web"],"event":["stop"]}`, start("web"), false},
		{`{"event":["start","stop"],"type":["container"]}`, start("web"), true},
		{`{"event":["exec_start"]}`, exec, true},
		{`{"image":["busybox"]}`, start("web"), true},
		{`{"image":["busybox:1.24"]}`, start("web"), true},
		{`{"image":["busybox:2"]}`, start("web"), false},
		{`{"image":["busybox"]}`, pull, true},
		{`{"image":["busybox"]}`, connect, false},
		{`{"network":["front"]}`, connect, true},
		{`{"network":["front"]}`, start("web"), false},
		{`{"container":["web012"]}`, connect, true},
		{`{"volume":["v"]}`, connect, false},
		{`{"label":["image=busybox:1.24"]}`, start("web"), true},
		{`{"label":["a"]}`, start("web"), false},
		{`{"scope":["swarm"]}`, start("web"), false},
	} {
		f, err := filter.Parse(test.filters)
		if err != nil {
			t.Fatal(err)
		}
		if got := Match(f, test.message); got != test.want {
			t.Errorf("%s matches %s %s: %v", test.filters, test.message.Type, test.message.Action, got)
		}
	}
}

func TestCheckFilters(t *testing.T) {
	if err := CheckFilters(filter.Args{"container": {"a"}, "event": {"start"}}); err != nil {
		t.Error(err)
	}
	if err := CheckFilters(filter.Args{"colour": {"red"}}); err == nil {
		t.Error("an unknown filter is ignored")
	}
}

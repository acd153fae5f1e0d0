package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/guest/seed"
)

// routes is the control API.
func (h *hub) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range []struct {
		pattern string
		serve   func(r *http.Request) (any, error)
	}{
		{"GET /v1/ping", func(*http.Request) (any, error) { return h.ping() }},
		{"GET /v1/machines", h.serveList},
		{"POST /v1/machines", h.serveAttach},
		{"GET /v1/machines/{index}", h.one(func(x *machine, _ *http.Request) (any, error) { s, _ := x.look(); return s, nil })},
		{"DELETE /v1/machines/{index}", h.serveDetach},
		{"GET /v1/machines/{index}/wait", h.one(func(x *machine, r *http.Request) (any, error) { return nil, x.wait(r.Context()) })},
		{"GET /v1/machines/{index}/spoke", h.one(func(x *machine, r *http.Request) (any, error) { return nil, x.waitSpoke(r.Context()) })},
		{"POST /v1/machines/{index}/poweroff", h.one(func(x *machine, _ *http.Request) (any, error) {
			return nil, x.say(seed.Command{PowerOff: true})
		})},
	} {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			req.Body = http.MaxBytesReader(w, req.Body, 1<<20)
			v, err := r.serve(req)
			answer(w, v, err)
		})
	}
	mux.HandleFunc("POST /v1/quit", h.serveQuit)
	return mux
}

// serveQuit ends the switch when its answer is on the way: the end closes all connections.
func (h *hub) serveQuit(w http.ResponseWriter, _ *http.Request) {
	first := h.quit()
	answer(w, nil, nil)
	http.NewResponseController(w).Flush()
	if first {
		go h.over()
	}
}

// refusal is an error with a status of HTTP.
func refusal(status int, format string, args ...any) *vswitch.Error {
	return &vswitch.Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := refusal(http.StatusInternalServerError, "%v", err)
		errors.As(err, &e)
		w.WriteHeader(e.Status)
		v = e
	}
	if v == nil {
		v = struct{}{}
	}
	json.NewEncoder(w).Encode(v)
}

// one makes a handler of what is done with one machine.
func (h *hub) one(f func(*machine, *http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		x := h.get(index(r))
		if x == nil {
			return nil, refusal(http.StatusNotFound, "no machine with the address number %s is attached", r.PathValue("index"))
		}
		return f(x, r)
	}
}

func index(r *http.Request) int {
	i, err := strconv.Atoi(r.PathValue("index"))
	if err != nil {
		return -1
	}
	return i
}

func (h *hub) serveList(*http.Request) (any, error) {
	l := []vswitch.Status{}
	for _, m := range h.list() {
		s, _ := m.look()
		l = append(l, s)
	}
	return l, nil
}

func (h *hub) serveAttach(r *http.Request) (any, error) {
	var m vswitch.Machine
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return nil, refusal(http.StatusBadRequest, "reading the machine: %v", err)
	}
	return nil, h.attach(r.Context(), m)
}

func (h *hub) serveDetach(r *http.Request) (any, error) {
	h.detach(index(r))
	return nil, nil
}

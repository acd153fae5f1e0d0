package dosim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// addControl adds the control API, for tests that run the simulator as a program. It needs no token.
func (s *Server) addControl(mux *http.ServeMux) {
	mux.HandleFunc("POST /dosim/faults", func(w http.ResponseWriter, r *http.Request) {
		take(w, r, func(f Fault) error { s.Inject(f); return nil })
	})
	mux.HandleFunc("POST /dosim/boots", func(w http.ResponseWriter, r *http.Request) {
		take(w, r, func(b Boot) error { s.InjectBoot(b); return nil })
	})
	mux.HandleFunc("DELETE /dosim/faults", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.faults, s.boots = nil, nil
		s.mu.Unlock()
		answer(w, http.StatusNoContent, nil)
	})
	mux.HandleFunc("DELETE /dosim/droplets/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		if !s.Vanish(id) {
			http.NotFound(w, r)
			return
		}
		answer(w, http.StatusNoContent, nil)
	})
	mux.HandleFunc("POST /dosim/droplets/{id}/ssh", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		take(w, r, func(in struct {
			ResetFor Duration `json:"reset_for"`
		}) error {
			return s.ResetSSH(id, time.Duration(in.ResetFor))
		})
	})
	mux.HandleFunc("POST /dosim/tokens", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Scopes []string `json:"scopes"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, http.StatusCreated, object{"token": s.AddToken(in.Scopes...)})
	})
	mux.HandleFunc("GET /dosim/calls", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, object{"calls": s.Calls()}) })
}

// take decodes a body, unknown fields refused, and hands it to f.
func take[T any](w http.ResponseWriter, r *http.Request, f func(T) error) {
	var v T
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := f(v); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	answer(w, http.StatusNoContent, nil)
}

// ResetSSH has a droplet's port 22 answer with resets for d, connections that exist included.
func (s *Server) ResetSSH(id int, d time.Duration) error {
	s.mu.Lock()
	droplet := s.droplets[id]
	s.mu.Unlock()
	switch {
	case droplet == nil:
		return notFound()
	case s.opt.Machines == nil:
		return invalid("droplets of this simulator do not boot")
	}
	return s.opt.Machines.ResetSSH(droplet.Public, d)
}

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/getberth/berth/engine/filter"
)

// maxJSON bounds a JSON body, in bytes. A container's create request is some KB; compose's largest, with its labels, below 1 MB.
const maxJSON = 4 << 20

// call is one request on its way through its handler.
type call struct {
	*Server
	w     *response
	r     *http.Request
	v     version
	vars  map[string]string // of the path
	query url.Values
}

// response knows whether an answer has begun.
type response struct {
	http.ResponseWriter
	status   int
	started  bool
	hijacked bool
}

func (w *response) WriteHeader(code int) {
	w.started, w.status = true, code
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(p []byte) (int, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Flush sends what has been written, headers included.
func (w *response) Flush() error {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands out the connection; no answer can be written any more.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.started, w.hijacked, w.status = true, true, http.StatusSwitchingProtocols
	}
	return conn, buf, err
}

// ctx ends when the client goes.
func (c *call) ctx() context.Context { return c.r.Context() }

// act is for changes that a client which goes away must not leave half-done.
func (c *call) act() context.Context { return context.WithoutCancel(c.r.Context()) }

// parseQuery reads the URL's parameters, and a form in the body as some old SDKs send it.
func (c *call) parseQuery() error {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return invalid("invalid query: %v", err)
	}
	c.query = query
	media, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if c.r.Method != http.MethodPost || media != "application/x-www-form-urlencoded" || c.r.ContentLength == 0 {
		return nil
	}
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxJSON)
	if err := c.r.ParseForm(); err != nil {
		return invalid("invalid form: %v", err)
	}
	for key, values := range c.r.PostForm {
		c.query[key] = append(c.query[key], values...)
	}
	return nil
}

func (c *call) get(name string) string { return c.query.Get(name) }

// flag reads a parameter that is true unless it is missing or says no.
func (c *call) flag(name string) bool {
	switch strings.ToLower(strings.TrimSpace(c.get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// flagOr is flag for a parameter that may be true without being there.
func (c *call) flagOr(name string, missing bool) bool {
	if !c.query.Has(name) {
		return missing
	}
	return c.flag(name)
}

// number reads a parameter that is a decimal; nil when it is missing.
func (c *call) number(name string) (*int, error) {
	text := c.get(name)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, invalid("invalid value for %q: %q is not a number", name, text)
	}
	return &n, nil
}

func (c *call) time(name string) (time.Time, error) {
	t, err := filter.ParseTime(c.get(name), time.Now())
	if err != nil {
		return time.Time{}, invalid("invalid value for %q: %v", name, err)
	}
	return t, nil
}

func (c *call) filters() (filter.Args, error) { return filter.Parse(c.get("filters")) }

// platform reads a parameter as "linux/arm64" or as JSON, as clients send it depending on the request. nil when it is missing.
func (c *call) platform(name string) (*ocispec.Platform, error) {
	text := c.get(name)
	if text == "" {
		return nil, nil
	}
	return parsePlatform(name, text)
}

// maxPlatforms bounds what one request may name; an index has as many manifests at most.
const maxPlatforms = 1000

// platforms reads a parameter that may be repeated, and that API versions before since do not have.
func (c *call) platforms(name string, since version) (list []ocispec.Platform, err error) {
	if c.v < since {
		return nil, nil
	}
	if len(c.query[name]) > maxPlatforms {
		return nil, invalid("%d platforms; at most %d are supported", len(c.query[name]), maxPlatforms)
	}
	for _, text := range c.query[name] {
		p, err := parsePlatform(name, text)
		if err != nil {
			return nil, err
		}
		list = append(list, *p)
	}
	return list, nil
}

func parsePlatform(name, text string) (*ocispec.Platform, error) {
	if !strings.HasPrefix(text, "{") {
		p, err := platforms.Parse(text)
		if err != nil {
			return nil, invalid("invalid %s %q: %v", name, text, err)
		}
		return &p, nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, invalid("failed to parse platform: %v", err)
	}
	if p.OS == "" || p.Architecture == "" {
		return nil, invalid("both OS and Architecture must be provided")
	}
	return &p, nil
}

// body reads a JSON body into v. No body leaves v as it is.
func (c *call) body(v any) error {
	if c.r.Body == nil || c.r.ContentLength == 0 {
		return nil
	}
	if err := c.checkJSON(); err != nil {
		return err
	}
	dec := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, maxJSON))
	err := dec.Decode(v)
	switch {
	case errors.Is(err, io.EOF) && c.r.ContentLength < 0:
		return nil // chunked, and empty
	case errors.Is(err, io.EOF):
		return invalid("invalid JSON: got EOF while reading request body")
	case err != nil:
		return badBody(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("unexpected content after JSON")
	}
	return nil
}

// mustBody is body for a request that means nothing without one.
func (c *call) mustBody(v any) error {
	if c.r.Body == nil || c.r.ContentLength == 0 {
		return invalid("invalid JSON: EOF")
	}
	r := bufio.NewReader(c.r.Body)
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		return invalid("invalid JSON: EOF") // chunked, and empty
	}
	c.r.Body = struct {
		io.Reader
		io.Closer
	}{r, c.r.Body}
	return c.body(v)
}

func (c *call) checkJSON() error {
	text := c.r.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(text)
	if err != nil {
		return invalid("malformed Content-Type header (%s): %v", text, err)
	}
	if media != "application/json" {
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", text)
	}
	return nil
}

// json answers with a value.
func (c *call) json(code int, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(code)
	enc := json.NewEncoder(c.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// reply answers with a value, or with the error that there is instead.
func reply[T any](c *call, code int, v T, err error) error {
	if err != nil {
		return err
	}
	return c.json(code, v)
}

// done answers without a body, or with the error that there is.
func (c *call) done(code int, err error) error {
	if err != nil {
		return err
	}
	c.w.WriteHeader(code)
	return nil
}

// list is a slice that is written as [] when it is empty, not as null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// dict is a map that is written as {} when it is empty, not as null.
func dict[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

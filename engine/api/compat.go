package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// withFields is a value that is written with fields which its type has no more, for clients of older API versions. Nested
// maps add to the objects that are there.
func withFields(v any, extra map[string]any) any {
	if len(extra) == 0 {
		return v
	}
	return extended{v, extra}
}

type extended struct {
	value any
	extra map[string]any
}

// MarshalJSON writes the value's own fields first, in their order.
func (e extended) MarshalJSON() ([]byte, error) {
	data, err := encode(e.value)
	if err != nil {
		return nil, err
	}
	o, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("%T is not an object: %w", e.value, err)
	}
	if err := o.merge(e.extra); err != nil {
		return nil, err
	}
	return o.write()
}

// encode is json.Marshal without escapes for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// object is a JSON object that keeps its order.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

func parseObject(data []byte) (object, error) {
	o := object{values: map[string]json.RawMessage{}}
	if err := json.Unmarshal(data, &o.values); err != nil {
		return object{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return object{}, err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return object{}, err
		}
		o.keys = append(o.keys, fmt.Sprint(key))
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return object{}, err
		}
	}
	return o, nil
}

func (o *object) merge(extra map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		value := extra[key]
		have, there := o.values[key]
		if !there {
			o.keys = append(o.keys, key)
		}
		if inner, ok := value.(map[string]any); ok && there && have[0] == '{' {
			value = extended{have, inner}
		}
		data, err := encode(value)
		if err != nil {
			return err
		}
		o.values[key] = data
	}
	return nil
}

func (o *object) write() ([]byte, error) {
	b := []byte{'{'}
	for i, key := range o.keys {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := encode(key)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), o.values[key]...)
	}
	return append(b, '}'), nil
}

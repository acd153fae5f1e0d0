package api

import (
	"bytes"
	"encoding/json"
	"fmt"
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

func (e extended) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(e.value)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&object); err != nil {
		return nil, fmt.Errorf("%T is not an object: %w", e.value, err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err = enc.Encode(merge(object, e.extra))
	return b.Bytes(), err
}

func merge(object, extra map[string]any) map[string]any {
	if object == nil {
		object = map[string]any{}
	}
	for key, value := range extra {
		inner, isObject := value.(map[string]any)
		if !isObject {
			object[key] = value
			continue
		}
		have, _ := object[key].(map[string]any)
		object[key] = merge(have, inner)
	}
	return object
}

package api

import (
	"encoding/json"
	"testing"
)

func TestExtraFieldsKeepTheOrder(t *testing.T) {
	value := struct {
		Z string
		N struct{ B, A int }
		C []int
	}{Z: "<z>"}
	extra := map[string]any{"X": 1, "N": map[string]any{"D": 2, "A": 3}, "M": map[string]any{"E": 4}}
	got, err := encode(withFields(value, extra))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Z":"<z>","N":{"B":0,"A":3,"D":2},"C":null,"M":{"E":4},"X":1}`; string(got) != want {
		t.Errorf("got %s", got)
	}
	if _, err := json.Marshal(withFields([]int{1}, extra)); err == nil {
		t.Error("a list has got fields")
	}
}

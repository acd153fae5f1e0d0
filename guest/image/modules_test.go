package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestModulesInOrder(t *testing.T) {
	dir := t.TempDir()
	dep := "kernel/a-b.ko: kernel/c.ko kernel/d.ko\nkernel/c.ko: kernel/d.ko\nkernel/d.ko:\nkernel/e.ko.xz:\n"
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(dep), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := readModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Dashes are underscores, what is built in is left out, nothing comes twice.
	got := x.inOrder([]string{"a_b", "builtin", "e", "d"})
	want := []string{"kernel/d.ko", "kernel/c.ko", "kernel/a-b.ko", "kernel/e.ko.xz"}
	if !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestUnsigned(t *testing.T) {
	signature := append(append(make([]byte, 8), 0, 0, 0, 4), signatureMagic...)
	signed := append(append([]byte("module"), "sign"...), signature...)
	for _, test := range []struct{ name, in, want string }{
		{"signed", string(signed), "module"},
		{"unsigned", "module", "module"},
		{"magic alone", signatureMagic, signatureMagic},
		{"length beyond the file", "x" + string(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0}, signatureMagic...)), ""},
	} {
		want := test.want
		if want == "" {
			want = test.in
		}
		if got := unsigned([]byte(test.in)); !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
	}
}

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/images"
)

// The image whose way into an engine is timed: 300 MB in files of 64 KiB, which compress to half, as programs do.
const (
	bigImage  = "big:v1"
	bigLayers = 6
	bigLayer  = 50 << 20
	bigFile   = 64 << 10
)

func makeBig() (v1.Image, error) {
	random := rand.New(rand.NewPCG(1, 2)) // the same each time
	var layers []images.Layer
	for i := range bigLayers {
		files := []images.File{{Name: fmt.Sprintf("layer%d/", i)}}
		for j := range bigLayer / bigFile {
			files = append(files, images.File{Name: fmt.Sprintf("layer%d/file%d", i, j), Body: halfRandom(random)})
		}
		layers = append(layers, images.Layer{CreatedBy: "COPY . /", Files: files})
	}
	return images.Build(v1.Config{Cmd: []string{"/none"}}, layers...)
}

// halfRandom is the body of a file, of which every other stretch of 512 bytes is the same.
func halfRandom(random *rand.Rand) string {
	body := bytes.Repeat([]byte("berth "), bigFile/6+1)[:bigFile]
	for at := 0; at < bigFile; at += 1024 {
		for i := range 512 / 8 {
			v := random.Uint64()
			for k := range 8 {
				body[at+8*i+k] = byte(v >> (8 * k))
			}
		}
	}
	return string(body)
}

// measureImages times how a large image comes into each engine, from a registry beside it and from an archive.
func measureImages(ctx context.Context, b *bench, ours, peer *server) (figures []figure, err error) {
	progress("making an image of 300 MB")
	img, err := makeBig()
	if err != nil {
		return nil, err
	}
	archive := filepath.Join(b.dir, "big.tar")
	f, err := os.Create(archive)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(images.WriteDockerArchive(f, bigImage, img), f.Close()); err != nil {
		return nil, err
	}
	refs := map[*server]string{}
	for _, s := range []*server{ours, peer} {
		if s == nil {
			continue
		}
		reg, err := s.serveRegistry(img)
		if err != nil {
			return nil, err
		}
		defer reg.Close()
		refs[s] = reg.Host() + "/" + bigImage
	}
	pull, err := b.timeImage(ctx, "docker pull of 300 MB, local registry", ours, peer, func(s *server) (string, []string) {
		return refs[s], []string{"pull", "-q", refs[s]}
	})
	if err != nil {
		return nil, err
	}
	load, err := b.timeImage(ctx, "docker load of 300 MB", ours, peer, func(*server) (string, []string) {
		return bigImage, []string{"load", "-q", "-i", archive}
	})
	return []figure{pull, load}, err
}

// timeImage brings an image into both engines in turns, and removes it each time.
func (b *bench) timeImage(ctx context.Context, what string, ours, peer *server, command func(*server) (ref string, args []string)) (figure, error) {
	progress("%s, %d times", what, b.pulls)
	f := figure{what: what, unit: "s", with: "dockerd 20.10", target: target{most: 0.7, ratio: true}}
	for range b.pulls {
		for _, s := range []*server{ours, peer} {
			if s == nil {
				continue
			}
			ref, args := command(s)
			began := time.Now()
			if _, err := s.docker(ctx, args...); err != nil {
				return f, err
			}
			took := seconds(time.Since(began))
			if _, err := s.docker(ctx, "rmi", ref); err != nil {
				return f, err
			}
			if s == ours {
				f.ours = append(f.ours, took)
			} else {
				f.peer = append(f.peer, took)
			}
		}
	}
	return f, nil
}

// serveRegistry serves an image on the loopback of the engine's network namespace.
func (s *server) serveRegistry(img v1.Image) (*images.Registry, error) {
	l, err := s.listen()
	if err != nil {
		return nil, fmt.Errorf("listening beside %s: %w", s.name, err)
	}
	reg, err := images.Serve(images.RegistryOptions{Listener: l})
	if err != nil {
		return nil, err
	}
	return reg, reg.Add(bigImage, img)
}

// listen makes a listener in the engine's network namespace. The thread that has been there is not used again.
func (s *server) listen() (l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, openErr := unix.Open(fmt.Sprintf("/proc/%d/ns/net", s.cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if openErr != nil {
			err = openErr
			return
		}
		defer unix.Close(fd)
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return
		}
		var lc net.ListenConfig
		l, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	}()
	<-done
	return l, err
}

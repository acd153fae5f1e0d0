package network

import (
	"fmt"
	"testing"

	"github.com/moby/moby/api/types/network"
)

// BenchmarkSandbox is what a container costs: its namespace made, connected, and removed.
func BenchmarkSandbox(b *testing.B) {
	for _, name := range []string{"bridge", "named"} {
		b.Run(name, func(b *testing.B) {
			e := start(b)
			if name != "bridge" {
				_, err := e.Create(b.Context(), network.CreateRequest{Name: name})
				must(b, err)
			}
			for b.Loop() {
				c := e.run("c", name)
				c.remove()
			}
		})
	}
}

// BenchmarkCreateConnect leaves the removal out of the time.
func BenchmarkCreateConnect(b *testing.B) {
	e := start(b)
	for b.Loop() {
		c := e.run("c", "bridge")
		b.StopTimer()
		c.remove()
		b.StartTimer()
	}
}

// BenchmarkSandboxParallel is the same with containers side by side.
func BenchmarkSandboxParallel(b *testing.B) {
	e := start(b)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.run("c", "bridge").remove()
		}
	})
}

// BenchmarkPublish publishes one more port beside many.
func BenchmarkPublish(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			e := start(b)
			if others > 0 {
				_, err := e.Service.Publish(b.Context(), e.run("many", "bridge").id, manyPorts(20000, others))
				must(b, err)
			}
			c := e.run("one", "bridge")
			for b.Loop() {
				_, err := e.Service.Publish(b.Context(), c.id, manyPorts(10000, 1))
				must(b, err)
			}
		})
	}
}

func manyPorts(first, n int) network.PortMap {
	want := network.PortMap{}
	for i := range n {
		want[network.MustParsePort(fmt.Sprintf("%d/tcp", i+1))] = []network.PortBinding{{HostPort: fmt.Sprint(first + i)}}
	}
	return want
}

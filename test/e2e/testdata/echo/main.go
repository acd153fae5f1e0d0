// Command echo sends UDP datagrams back to where they came from.
package main

import (
	"log"
	"net"
)

func main() {
	c, err := net.ListenPacket("udp", ":5353")
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := c.WriteTo(b[:n], from); err != nil {
			log.Print(err)
		}
	}
}

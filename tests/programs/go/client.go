// Forty connections at once: each sends a megabyte while it reads it back, half-closes, and compares.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strings"
	"time"
)

const count, size = 40, 1 << 20

func talk(seed int64) error {
	conn, err := net.DialTimeout("tcp", os.Args[1], 30*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	reader := bufio.NewReader(conn)
	seen, err := reader.ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(seen) != conn.LocalAddr().String() {
		return fmt.Errorf("the server sees %q, we are %v", seen, conn.LocalAddr())
	}
	data := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	back, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return fmt.Errorf("%d of %d bytes, or other ones, came back", len(back), size)
	}
	return <-sent
}

func main() {
	results := make(chan error, count)
	for i := 0; i < count; i++ {
		go func(seed int64) { results <- talk(seed) }(int64(i))
	}
	for i := 0; i < count; i++ {
		if err := <-results; err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Printf("%d connections echoed\n", count)
}

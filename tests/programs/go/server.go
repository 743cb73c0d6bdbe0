// Echo server: a line with the peer's address as seen here, then every byte back until the peer's end.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func serve(conn net.Conn) {
	defer conn.Close()
	fmt.Fprintf(conn, "%s\n", conn.RemoteAddr())
	if _, err := io.Copy(conn, conn); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
	}
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go serve(conn)
	}
}

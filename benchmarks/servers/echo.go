// The echo as Go writes it: a goroutine for each connection.
//
//	echo_go tcp|udp PORT | unix PATH | tls PORT CERTIFICATE KEY      (port 0: any)
//
// Prints "ready PORT" or "ready PATH" when it listens. TCP_NODELAY is Go's default.
package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"os"
)

// As io.Copy has it. Not io.Copy itself: between TCP connections it splices through a pipe, which
// makes small messages no cheaper and takes two more descriptors for each connection.
const bufferSize = 32 * 1024

func serve(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, bufferSize)
	for {
		n, err := connection.Read(buffer)
		if n > 0 {
			if _, err := connection.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func serveStreams(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection)
	}
}

func serveDatagrams(connection *net.UDPConn) {
	buffer := make([]byte, 65535)
	for {
		// The one pair of calls that does not allocate an address for every datagram.
		n, from, err := connection.ReadFromUDPAddrPort(buffer)
		if err == nil {
			connection.WriteToUDPAddrPort(buffer[:n], from)
		}
	}
}

func ready(address net.Addr) {
	switch a := address.(type) {
	case *net.TCPAddr:
		fmt.Println("ready", a.Port)
	case *net.UDPAddr:
		fmt.Println("ready", a.Port)
	default:
		fmt.Println("ready", a)
	}
}

func main() {
	if len(os.Args) < 3 || (os.Args[1] == "tls" && len(os.Args) != 5) {
		log.Fatal("usage: echo_go tcp|udp PORT | unix PATH | tls PORT CERTIFICATE KEY")
	}
	transport, address := os.Args[1], os.Args[2]
	if transport != "unix" {
		address = "127.0.0.1:" + address
	}
	if transport == "udp" {
		connection, err := net.ListenPacket("udp4", address)
		if err != nil {
			log.Fatal(err)
		}
		ready(connection.LocalAddr())
		serveDatagrams(connection.(*net.UDPConn))
	}
	network := transport
	if transport != "unix" {
		network = "tcp4"
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	if transport == "tls" {
		certificate, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
		if err != nil {
			log.Fatal(err)
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	ready(listener.Addr())
	serveStreams(listener)
}

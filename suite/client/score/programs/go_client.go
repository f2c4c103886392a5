// A client with Go's crypto/tls: arguments are HOST, PORT and the CA's file.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"
)

const timeLimit = 5 * time.Second

func main() {
	if err := ask(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintf(os.Stderr, "%T: %v\n", err, err)
		os.Exit(1)
	}
}

func ask(host, port, ca string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dialer := &net.Dialer{Timeout: timeLimit}
	config := &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}
	connection, err := tls.DialWithDialer(dialer, "tcp", net.JoinHostPort(host, port), config)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(timeLimit))
	if _, err := connection.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	length, err := connection.Read(answer)
	if length == 0 {
		return err
	}
	fmt.Println(string(answer[:length]))
	return nil
}

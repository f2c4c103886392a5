// Verifies chains as a Go client does: reads {"ca": PEM, "host": name, "chains": {name: [base64 DER, …]}},
// writes {name: error}, empty for what it accepts.
package main

import (
	"crypto/x509"
	"encoding/json"
	"os"
)

type question struct {
	CA     string              `json:"ca"`
	Host   string              `json:"host"`
	Chains map[string][][]byte `json:"chains"`
}

func verify(chain [][]byte, roots *x509.CertPool, host string) error {
	var leaf *x509.Certificate
	intermediates := x509.NewCertPool()
	for _, der := range chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if leaf == nil {
			leaf = certificate
		} else {
			intermediates.AddCert(certificate)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: host})
	return err
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(asked.CA))
	answer := map[string]string{}
	for name, chain := range asked.Chains {
		answer[name] = ""
		if err := verify(chain, roots, asked.Host); err != nil {
			answer[name] = err.Error()
		}
	}
	json.NewEncoder(os.Stdout).Encode(answer)
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs every certificate of one cluster.
type authority struct {
	spec *Spec
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// makeKeys writes the cluster's root, certificates, kubeconfigs and the key of service account tokens.
func makeKeys(s *Spec) error {
	if err := os.MkdirAll(s.path("pki"), 0o700); err != nil {
		return err
	}
	root, err := newAuthority(s)
	if err != nil {
		return err
	}
	node := "system:node:" + s.nodeName()
	apiNames := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain}
	apiAddresses := []net.IP{net.IPv4(127, 0, 0, 1), s.Address.AsSlice(), s.apiServiceAddress().AsSlice()}
	for _, each := range []struct {
		file, name string
		groups     []string
		names      []string
		addresses  []net.IP
	}{
		{file: "apiserver", name: "kube-apiserver", names: apiNames, addresses: apiAddresses},
		{file: "apiserver-kubelet", name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{file: "kubelet", name: node, groups: []string{"system:nodes"}, names: []string{s.nodeName()}, addresses: []net.IP{s.Address.AsSlice()}},
		{file: "admin", name: "admin", groups: []string{"system:masters"}},
		{file: "clusters", name: "clusters", groups: []string{"system:masters"}},
		{file: "kube-controller-manager", name: "system:kube-controller-manager"},
		{file: "kube-scheduler", name: "system:kube-scheduler"},
		{file: "kube-proxy", name: "system:kube-proxy"},
		{file: "coredns", name: "coredns"},
	} {
		if err := root.issue(each.file, each.name, each.groups, each.names, each.addresses); err != nil {
			return err
		}
	}
	for file, user := range map[string]string{
		s.kubeconfig():                       "admin",
		s.path("pki", "clusters.conf"):       "clusters",
		s.path("pki", "kubelet.conf"):        "kubelet",
		s.path("pki", "controller.conf"):     "kube-controller-manager",
		s.path("pki", "kube-scheduler.conf"): "kube-scheduler",
		s.path("pki", "kube-proxy.conf"):     "kube-proxy",
		s.path("pki", "coredns.conf"):        "coredns",
	} {
		if err := root.kubeconfig(file, user); err != nil {
			return err
		}
	}
	tokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return writeKey(s.path("pki", "tokens.key"), tokens)
}

func newAuthority(s *Spec) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: s.Name + "-ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(s.path("pki", "ca.crt"), text, 0o644); err != nil {
		return nil, err
	}
	return &authority{s, cert, key, text}, writeKey(s.path("pki", "ca.key"), key)
}

func (a *authority) issue(file, name string, groups, names []string, addresses []net.IP) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    a.cert.NotBefore,
		NotAfter:     a.cert.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     names,
		IPAddresses:  addresses,
	}
	if len(addresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(a.spec.path("pki", file+".crt"), text, 0o644); err != nil {
		return err
	}
	return writeKey(a.spec.path("pki", file+".key"), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// kubeconfig writes one that holds everything in itself, so that it can be copied elsewhere. It appears whole or not at all.
func (a *authority) kubeconfig(file, user string) error {
	cert, err := os.ReadFile(a.spec.path("pki", user+".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(a.spec.path("pki", user+".key"))
	if err != nil {
		return err
	}
	encode := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[1]s
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[1]s-%[2]s}
clusters:
- name: %[1]s
  cluster:
    server: https://%[3]s:%[4]d
    certificate-authority-data: %[5]s
users:
- name: %[1]s-%[2]s
  user:
    client-certificate-data: %[6]s
    client-key-data: %[7]s
`, a.spec.Name, user, a.spec.Address, a.spec.Port, encode(a.pem), encode(cert), encode(key))
	partial := filepath.Join(filepath.Dir(file), "."+filepath.Base(file))
	if err := os.WriteFile(partial, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(partial, file)
}

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// auditPolicy: who asked for what and what came of it, for every request, without bodies.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// startAPI starts etcd and the API server at once; the one waits for the other.
func startAPI(k *keeper) error {
	s := k.spec
	pki := func(file string) string { return s.path("pki", file) }
	etcd := fmt.Sprintf("127.0.0.1:%d", s.EtcdPort)
	api := []string{
		"--etcd-servers=http://" + etcd,
		"--bind-address=" + s.Address.String(),
		fmt.Sprintf("--secure-port=%d", s.Port),
		"--service-cluster-ip-range=" + s.ServiceRange.String(),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet.key"),
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + pki("tokens.key"),
		"--service-account-signing-key-file=" + pki("tokens.key"),
		"--profiling=false",
	}
	if s.OnlyAPI {
		// An address of the loopback is no endpoint that a pod could call.
		api = append(api, "--endpoint-reconciler-type=none")
	} else {
		// Pods and other clusters come by the node's address, the parts beside it by the loopback.
		api = append(api, "--advertise-address="+s.Address.String(), "--kubelet-preferred-address-types=InternalIP")
	}
	if s.Audit {
		if err := os.WriteFile(s.path("audit-policy.yaml"), []byte(auditPolicy), 0o644); err != nil {
			return err
		}
		api = append(api, "--audit-policy-file="+s.path("audit-policy.yaml"), "--audit-log-path="+s.path("audit.log"), "--audit-log-mode=blocking")
	}
	parts := []part{
		{name: "etcd", args: []string{"--data-dir=" + s.path("etcd"), "--listen=" + etcd, fmt.Sprintf("--listen-peer=127.0.0.1:%d", s.EtcdPeerPort)}},
		{name: "kube-apiserver", args: api},
	}
	for _, part := range parts {
		if err := k.keep(part); err != nil {
			return err
		}
	}
	return nil
}

// startControllers starts what makes objects of objects, once the API server serves: earlier, each would wait longer than it must.
func startControllers(k *keeper) error {
	s := k.spec
	pki := func(file string) string { return s.path("pki", file) }
	controllers := []string{
		"--kubeconfig=" + pki("controller.conf"),
		"--authentication-kubeconfig=" + pki("controller.conf"),
		"--authorization-kubeconfig=" + pki("controller.conf"),
		"--leader-elect=false",
		// Each controller makes a token of its own first; at the usual rate that alone takes five seconds.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--secure-port=0",
		"--root-ca-file=" + pki("ca.crt"),
		"--service-account-private-key-file=" + pki("tokens.key"),
		"--cluster-signing-cert-file=" + pki("ca.crt"),
		"--cluster-signing-key-file=" + pki("ca.key"),
		"--use-service-account-credentials=true",
		"--cluster-name=" + s.Name,
		"--cluster-cidr=" + s.PodRange.String(),
		"--service-cluster-ip-range=" + s.ServiceRange.String(),
		"--profiling=false",
	}
	if !s.OnlyAPI {
		// One node, so it has all of the range.
		controllers = append(controllers, "--allocate-node-cidrs=true", fmt.Sprintf("--node-cidr-mask-size=%d", s.PodRange.Bits()))
	}
	parts := []part{{name: "kube-controller-manager", args: controllers}}
	if !s.OnlyAPI {
		parts = append(parts, part{name: "kube-scheduler", args: []string{
			"--kubeconfig=" + pki("kube-scheduler.conf"),
			"--authentication-kubeconfig=" + pki("kube-scheduler.conf"),
			"--authorization-kubeconfig=" + pki("kube-scheduler.conf"),
			"--leader-elect=false",
			"--secure-port=0",
			"--profiling=false",
		}})
	}
	for _, part := range parts {
		if err := k.keep(part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.path("pki", "clusters.conf"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 100, 200
	config.Timeout = 0
	return kubernetes.NewForConfig(config)
}

// until asks again and again whether something is so. What it says last is the reason when time runs out.
func until(ctx context.Context, what string, so func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := so(once)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serving waits until the API server serves.
func serving(ctx context.Context, client *kubernetes.Clientset) error {
	return until(ctx, "the API server is not ready", func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// settled waits until the controllers have given the default namespace what every pod needs.
func settled(ctx context.Context, client *kubernetes.Clientset) error {
	return until(ctx, "the controllers have not made the default service account", func(ctx context.Context) error {
		if _, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", meta.GetOptions{}); err != nil {
			return err
		}
		_, err := client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", meta.GetOptions{})
		return err
	})
}

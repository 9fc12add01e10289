package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sort"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// offerDNS makes the service by which pods find the cluster's DNS. CoreDNS runs beside the kubelet, not in a pod: it is there
// before the first pod is, and needs no image.
func offerDNS(ctx context.Context, s *Spec, client *kubernetes.Clientset) error {
	role := &rbac.ClusterRole{
		ObjectMeta: meta.ObjectMeta{Name: "system:coredns"},
		Rules: []rbac.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"services", "pods", "namespaces", "endpoints"}, Verbs: []string{"list", "watch"}},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
		},
	}
	binding := &rbac.ClusterRoleBinding{
		ObjectMeta: meta.ObjectMeta{Name: "system:coredns"},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbac.Subject{{APIGroup: rbac.GroupName, Kind: "User", Name: "coredns"}},
	}
	labels := map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
	service := &core.Service{
		ObjectMeta: meta.ObjectMeta{Name: "kube-dns", Namespace: meta.NamespaceSystem, Labels: labels},
		Spec: core.ServiceSpec{
			ClusterIP: s.dnsAddress().String(),
			Ports: []core.ServicePort{
				{Name: "dns", Protocol: core.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: core.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
	slice := &discovery.EndpointSlice{
		ObjectMeta: meta.ObjectMeta{
			Name: "kube-dns-node", Namespace: meta.NamespaceSystem,
			Labels: map[string]string{discovery.LabelServiceName: "kube-dns", discovery.LabelManagedBy: "clusters"},
		},
		AddressType: discovery.AddressTypeIPv4,
		Endpoints:   []discovery.Endpoint{{Addresses: []string{s.Address.String()}}},
	}
	for _, port := range service.Spec.Ports {
		number := int32(53)
		slice.Ports = append(slice.Ports, discovery.EndpointPort{Name: &port.Name, Protocol: &port.Protocol, Port: &number})
	}
	create := meta.CreateOptions{}
	for what, make := range map[string]func(context.Context) error{
		"the DNS's role": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoles().Create(ctx, role, create)
			return err
		},
		"the DNS's role binding": func(ctx context.Context) error {
			_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, create)
			return err
		},
		"the DNS's service": func(ctx context.Context) error {
			_, err := client.CoreV1().Services(meta.NamespaceSystem).Create(ctx, service, create)
			return err
		},
		"the DNS's endpoints": func(ctx context.Context) error {
			_, err := client.DiscoveryV1().EndpointSlices(meta.NamespaceSystem).Create(ctx, slice, create)
			return err
		},
	} {
		if err := until(ctx, what+" could not be made", func(ctx context.Context) error {
			if err := make(ctx); !apierrors.IsAlreadyExists(err) {
				return err
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// dnsReady says whether CoreDNS answers for what is in the cluster, by the service's address: so the service proxy works too.
func dnsReady(ctx context.Context, s *Spec) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8181/ready", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the cluster's DNS is not ready (%s)", answer.Status)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, net.JoinHostPort(s.dnsAddress().String(), "53"))
	}}
	// A question asked before the rules for services are there is lost, so it is not waited for.
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = resolver.LookupHost(ctx, "kubernetes.default.svc."+domain+".")
	return err
}

// balance gives services of type LoadBalancer addresses of the node's /24. What comes there is the service proxy's to carry.
func balance(ctx context.Context, s *Spec, client *kubernetes.Clientset) {
	for ctx.Err() == nil {
		if err := balanceOnce(ctx, s, client); err != nil && ctx.Err() == nil {
			fmt.Printf("load balancers: %v; trying again\n", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// balanceOnce looks at all services and then at every change of one, until the watch ends.
func balanceOnce(ctx context.Context, s *Spec, client *kubernetes.Clientset) error {
	watch, err := client.CoreV1().Services("").Watch(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	defer watch.Stop()
	owners := map[netip.Addr]string{}
	all, err := client.CoreV1().Services("").List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for i := range all.Items {
		for _, address := range balancers(&all.Items[i]) {
			owners[address] = owner(&all.Items[i])
		}
	}
	for event := range watch.ResultChan() {
		service, ok := event.Object.(*core.Service)
		if !ok {
			return fmt.Errorf("the watch ended: %v", event.Object)
		}
		wanted := service.Spec.Type == core.ServiceTypeLoadBalancer && service.DeletionTimestamp == nil && event.Type != "DELETED"
		if !wanted {
			for address, of := range owners {
				if of == owner(service) {
					delete(owners, address)
				}
			}
			continue
		}
		if len(service.Status.LoadBalancer.Ingress) > 0 || slices.Contains(values(owners), owner(service)) {
			continue
		}
		address, err := free(s, owners)
		if err != nil {
			fmt.Printf("load balancers: %s: %v\n", owner(service), err)
			continue
		}
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{
			"ingress": []map[string]any{{"ip": address.String(), "ipMode": "VIP"}},
		}}})
		if err != nil {
			return err
		}
		_, err = client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name, "application/merge-patch+json", patch, meta.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		owners[address] = owner(service)
	}
	return nil
}

func owner(service *core.Service) string { return service.Namespace + "/" + service.Name }

func balancers(service *core.Service) []netip.Addr {
	var found []netip.Addr
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if address, err := netip.ParseAddr(ingress.IP); err == nil {
			found = append(found, address)
		}
	}
	return found
}

func values(owners map[netip.Addr]string) []string {
	var found []string
	for _, value := range owners {
		found = append(found, value)
	}
	sort.Strings(found)
	return found
}

func free(s *Spec, owners map[netip.Addr]string) (netip.Addr, error) {
	address := netip.MustParseAddr(fmt.Sprintf("%s.%d.100", nodeNetwork, s.Index))
	for range 100 {
		if _, taken := owners[address]; !taken {
			return address, nil
		}
		address = address.Next()
	}
	return netip.Addr{}, fmt.Errorf("all 100 addresses are taken")
}

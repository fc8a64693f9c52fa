package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// No cluster runs here. The files are held against Kubernetes's own types, against Dapr's
// custom resource definitions, against each other, and against the programs.
func TestKubernetesFilesFitTogether(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	if err := k.check(); err != nil {
		t.Error(err)
	}
}

// Each rule of the check is broken once, and the check sees it.
func TestKubernetesFilesThatAreWrongAreNoticed(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	const readme = "README.md"
	for _, wrong := range []struct{ file, old, new, want string }{
		// Not what Kubernetes, kustomize or Dapr take.
		{"inventory.yaml", "  replicas: 3", "  replica: 3", "replica"},
		{"inventory.yaml", "  replicas: 3", "  replicas: three", "inventory.yaml"},
		{"inventory.yaml", "containerPort:", "containerport:", "containerport"},
		{"inventory.yaml", "secretKeyRef: {name:", "secretKeyRef: {names:", "names"},
		{"inventory.yaml", "maxUnavailable: 1", "maxunavailable: 1", "maxunavailable"},
		{"order.yaml", "kind: Service", "kind: Servant", "Servant"},
		{"network.yaml", "policyTypes:", "policyType:", "policyType"},
		{"configurations.yaml", "  accessControl:\n    defaultAction: deny", "  accessControl:\n    defaultAktion: deny", "defaultAktion"},
		{"configurations.yaml", "handlers:", "handler:", "handler"},
		{"filter.yaml", "scopes:", "scope:", "scope"},
		{"filter.yaml", "name: url", "name: path", "path"},
		{"kustomization.yaml", "newName:", "newNames:", "newNames"},
		{"kustomization.yaml", "  - network.yaml\n", "", "resources"},
		{"kustomization.yaml", "name: deadletters", "name: dead-letters", "images"},
		{readme, "./daprhttp/deadletters\n", "./daprhttp\n", "images"},

		// What an operator asks of each pod.
		{"inventory.yaml", "readinessProbe:\n            httpGet: {path: /healthz, port: 5001}\n            periodSeconds: 5\n", "readinessProbe:\n", "readiness"},
		{"inventory.yaml", "httpGet: {path: /healthz, port: 5001}\n            timeoutSeconds", "httpGet: {path: /health, port: 5001}\n            timeoutSeconds", "liveness"},
		{"order.yaml", "limits: {memory: 512Mi}", "limits: {cpu: 1}", "memory"},
		{"order.yaml", "requests: {cpu: 100m, memory: 64Mi}", "requests: {cpu: 100m}", "requests"},
		{"order.yaml", `memory-limit: "1000Mi"`, `memory-limit: "1000MiB"`, "sidecar-memory-limit"},
		{"order.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "root"},
		{"order.yaml", "runAsUser: 65532", "runAsUser: 0", "root"},
		{"order.yaml", "RuntimeDefault", "Unconfined", "seccomp"},
		{"order.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "privileges"},
		{"dead-letters.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root"},
		{"dead-letters.yaml", "{drop: [ALL]}", "{drop: [KILL]}", "capabilities"},
		{"dead-letters.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "account"},
		{"dead-letters.yaml", "claimName: dead-letters", "claimName: letters", "claim"},
		{"dead-letters.yaml", "mountPath: /letters", "mountPath: /kept", "DEAD_LETTERS_DIR"},
		{"dead-letters.yaml", "strategy: {type: Recreate}", "strategy: {type: RollingUpdate}", "Recreate"},
		{"dead-letters.yaml", "fsGroup: 65532", "fsGroup: 1000", "fsGroup"},
		{"inventory.yaml", "        app: inventory-service\n", "        app: inventory\n", "selector"},
		{"inventory.yaml", "minReadySeconds: 15", "minReadySeconds: 10", "minReadySeconds"},
		{"inventory.yaml", "maxSurge: 1", "maxSurge: 2", "one after another"},
		{"inventory.yaml", "  maxUnavailable: 1\n  selector:\n    matchLabels: {app: inventory-service}", "  maxUnavailable: 1\n  selector:\n    matchLabels: {app: inventory}", "PodDisruptionBudget"},
		{"inventory.yaml", "          whenUnsatisfiable: ScheduleAnyway\n          labelSelector:\n            matchLabels: {app: inventory-service}", "          whenUnsatisfiable: ScheduleAnyway\n          labelSelector:\n            matchLabels: {app: inventory}", "spread"},
		{"order.yaml", "terminationGracePeriodSeconds: 35", "terminationGracePeriodSeconds: 29", "terminationGracePeriodSeconds"},
		{"order.yaml", "sleep: {seconds: 5}", "sleep: {seconds: 6}", "block-shutdown-duration"},

		// Names and ports.
		{"inventory.yaml", `app-id: "inventory-service"`, `app-id: "inventory"`, "app-id"},
		{"inventory.yaml", `app-port: "5001"`, `app-port: "5002"`, "app-port"},
		{"inventory.yaml", "containerPort: 5001", "containerPort: 5002", "port"},
		{"inventory.yaml", `dapr.io/config: "inventory-service"`, `dapr.io/config: "inventory"`, "Configuration"},
		{"inventory.yaml", "dapr.io/log-level", "dapr.io/loglevel", "loglevel"},
		{"inventory.yaml", `"answered:/answered"`, `"answered:/filter"`, "filter"},
		{"inventory.yaml", "configMap: {name: answered}", "configMap: {name: filter}", "filter"},
		{"inventory.yaml", `app-token-secret: "inventory-service-token"`, `app-token-secret: "order-service-token"`, "APP_API_TOKEN"},
		{"order.yaml", "order-service-token", "order-token", "order-token"},
		{"order.yaml", "{name: dapr-api-token, key: token}", "{name: dapr-api-token, key: value}", "DAPR_API_TOKEN"},
		{readme, "kubectl create secret generic dead-letters-token ", "", "dead-letters-token"},
		{"order.yaml", "- name: APP_HOST", "- name: APP_HOSTS", "APP_HOST"},
		{"order.yaml", "- name: APP_HOST", "- name: STOCK", "STOCK"},
		{"order.yaml", "targetPort: 5002", "targetPort: 5001", "Service"},
		{"order.yaml", "  selector: {app: order-service}", "  selector: {app: order}", "Service"},
		{"filter.yaml", "scopes: [inventory-service, order-service, dead-letters]", "scopes: [inventory-service, order-service, audit]", "audit"},
		{"filter.yaml", "scopes: [inventory-service, order-service, dead-letters]", "scopes: [inventory-service, order-service]", "scope"},
		{"filter.yaml", "AGFzbQE", "AGFzbQI", "answered.wasm"},
		{"configurations.yaml", "name: answered", "name: answer", "filter"},
		{"configurations.yaml", "  accessControl:\n    defaultAction: deny", "  accessControl:\n    defaultAction: allow", "inventory-service"},
		{"configurations.yaml", "metadata:\n  name: dead-letters", "metadata:\n  name: letters", "dead-letters"},
		{"network.yaml", "part-of: dapr-orders", "part-of: orders", "no pod"},
		{"network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Egress]", "NetworkPolicy"},
		{"network.yaml", "port: 5004", "port: 5005", "5005"},
		{"network.yaml", "port: 50002", "port: 50003", "50003"},
		{"network.yaml", "port: 6500", "port: 6501", "6501"},
		{"network.yaml", "port: 6379", "port: 6380", "6379"},
		{"network.yaml", "{port: 53, protocol: UDP}", "{port: 53, protocol: TCP}", "DNS"},
		{readme, "-f components/redis/retry.yaml ", "", "retry.yaml"},
		{readme, "-f components/redis/retry.yaml ", "-f components/redis/retry.yaml -f components/redis/answered.yaml ", "answered.yaml"},
	} {
		changed := *k
		changed.files = maps.Clone(k.files)
		text := k.files[wrong.file]
		if !strings.Contains(text, wrong.old) {
			t.Errorf("%s does not have %s", wrong.file, wrong.old)
			continue
		}
		changed.files[wrong.file] = strings.Replace(text, wrong.old, wrong.new, 1)
		if wrong.file == "order.yaml" && wrong.old == "order-service-token" { // everywhere
			changed.files[wrong.file] = strings.ReplaceAll(text, wrong.old, wrong.new)
		}
		if err := changed.check(); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("%s with %q for %q: got %v, want an error that names %s", wrong.file, wrong.new, wrong.old, err, wrong.want)
		}
	}
}

// kubernetes has the files of components/kubernetes, and what they have to fit.
type kubernetes struct {
	files       map[string]string // and the README
	components  map[string]componentSchema
	resources   map[string]resourceSchema // Dapr's, by kind
	annotations []string                  // that Dapr knows
	injector    string                    // source of Dapr that has the sidecar's ports
	charts      string                    // of Dapr's control plane
	module      []byte                    // of the filter
	servers     []string                  // ports of the broker and of the state store
	redis       []string                  // the files of components/redis
	pause       time.Duration             // until another sidecar delivers what a dead one had
	programs    map[string]string         // source of each app's main.go, by folder
}

func newKubernetes(t *testing.T) *kubernetes {
	t.Helper()
	read := func(elements ...string) string {
		text, err := os.ReadFile(filepath.Join(elements...))
		harness.Must(t, err)
		return string(text)
	}
	components := filepath.Join(harness.Project.Root, "components")
	dapr := harness.DaprModule(t, "github.com/dapr/dapr")
	k := &kubernetes{
		files:      make(map[string]string),
		components: readSchemas(t),
		resources: map[string]resourceSchema{
			"Component":     readResourceSchema(t, "components.yaml"),
			"Configuration": readResourceSchema(t, "configuration.yaml"),
		},
		injector: read(dapr, "pkg", "injector", "patcher", "sidecar.go"),
		module:   []byte(read(components, "answered.wasm")),
		programs: make(map[string]string),
	}
	for _, m := range regexp.MustCompile(`"(dapr\.io/[a-z0-9-]+)"`).FindAllStringSubmatch(read(dapr, "pkg", "injector", "annotations", "annotations.go"), -1) {
		k.annotations = append(k.annotations, m[1])
	}
	for _, chart := range []string{"dapr_operator/values.yaml", "dapr_sentry/values.yaml", "dapr_placement/values.yaml", "dapr_scheduler/templates/dapr_scheduler_statefulset.yaml"} {
		k.charts += read(dapr, "charts", "dapr", "charts", filepath.FromSlash(chart))
	}
	for folder, files := range map[string]*[]string{"kubernetes": {}, "redis": &k.redis} {
		found, err := filepath.Glob(filepath.Join(components, folder, "*"))
		harness.Must(t, err)
		for _, file := range found {
			if *files = append(*files, filepath.Base(file)); folder == "kubernetes" {
				k.files[filepath.Base(file)] = read(file)
				continue
			}
			for _, m := range regexp.MustCompile(`localhost:(\d+)`).FindAllStringSubmatch(read(file), -1) {
				k.servers = append(k.servers, m[1])
			}
		}
	}
	pubsub := read(components, "redis", "pubsub.yaml")
	for setting, unit := range map[string]string{"processingTimeout": "", "redeliverInterval": "ms"} {
		m := regexp.MustCompile(setting + "\n *value: \"(.*)\"").FindStringSubmatch(pubsub)
		if m == nil {
			t.Fatalf("components/redis/pubsub.yaml has no %s", setting)
		}
		d, err := time.ParseDuration(m[1] + unit)
		harness.Must(t, err)
		k.pause += d
	}
	for _, s := range stack.Services {
		k.programs[s.Folder] = read(harness.Project.Root, filepath.FromSlash(s.Folder), "main.go")
	}
	return k
}

// A cluster is what the files say, decoded.
type cluster struct {
	deployments    []*appsv1.Deployment
	services       []*corev1.Service
	modules        []*corev1.ConfigMap
	claims         []*corev1.PersistentVolumeClaim
	budgets        []*policyv1.PodDisruptionBudget
	networks       []*networkingv1.NetworkPolicy
	components     []componentFile
	configurations map[string]configuration
}

type configuration struct {
	Metadata struct{ Name string }
	Spec     struct {
		AppHTTPPipeline struct{ Handlers []struct{ Name, Type string } } `json:"appHttpPipeline"`
		AccessControl   struct {
			DefaultAction string `json:"defaultAction"`
			Policies      []any
		} `json:"accessControl"`
	}
}

// decode reads the files. It takes nothing that Kubernetes, or Dapr, does not know.
func (k *kubernetes) decode() (cluster, error) {
	c := cluster{configurations: make(map[string]configuration)}
	scheme := runtime.NewScheme()
	if err := errors.Join(appsv1.AddToScheme(scheme), corev1.AddToScheme(scheme), policyv1.AddToScheme(scheme), networkingv1.AddToScheme(scheme)); err != nil {
		return c, err
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	var wrong []error
	for _, file := range k.manifests() {
		for _, document := range strings.Split(k.files[file], "\n---\n") {
			if err := c.add([]byte(document), strict, k); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", file, err))
			}
		}
	}
	return c, errors.Join(wrong...)
}

// manifests returns the names of the files but kustomization.yaml.
func (k *kubernetes) manifests() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(k.files)), func(file string) bool {
		return file == "kustomization.yaml" || file == "README.md"
	})
}

// add decodes a document.
func (c *cluster) add(document []byte, strict runtime.Decoder, k *kubernetes) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	if kind.APIVersion != "dapr.io/v1alpha1" {
		object, _, err := strict.Decode(document, nil, nil)
		if err != nil {
			return err
		}
		switch o := object.(type) {
		case *appsv1.Deployment:
			c.deployments = append(c.deployments, o)
		case *corev1.Service:
			c.services = append(c.services, o)
		case *corev1.ConfigMap:
			c.modules = append(c.modules, o)
		case *corev1.PersistentVolumeClaim:
			c.claims = append(c.claims, o)
		case *policyv1.PodDisruptionBudget:
			c.budgets = append(c.budgets, o)
		case *networkingv1.NetworkPolicy:
			c.networks = append(c.networks, o)
		default:
			return fmt.Errorf("it is not known what a %s is for", kind.Kind)
		}
		return nil
	}
	schema, ok := k.resources[kind.Kind]
	if !ok {
		return fmt.Errorf("Dapr has no %s", kind.Kind)
	}
	var value any
	if err := yaml.UnmarshalStrict(document, &value); err != nil {
		return err
	}
	if err := schema.check("", value); err != nil {
		return err
	}
	switch kind.Kind {
	case "Component":
		var component componentFile
		err := errors.Join(checkComponent(document, k.components), yaml.Unmarshal(document, &component))
		c.components = append(c.components, component)
		return err
	default:
		var o configuration
		err := yaml.Unmarshal(document, &o)
		c.configurations[o.Metadata.Name] = o
		return err
	}
}

// check returns all that is wrong with the files.
func (k *kubernetes) check() error {
	c, err := k.decode()
	if err != nil {
		return err
	}
	wrong := &faults{}
	k.checkKustomization(c, wrong)
	k.checkAccess(c, wrong)
	k.checkFilter(c, wrong)
	k.checkNetwork(c, wrong)
	got := make(map[string]bool)
	for _, d := range c.deployments {
		got[d.Name] = true
		in := &faults{of: d.Name}
		k.checkApp(d, c, in)
		k.checkSidecar(d, c, in)
		checkPod(d, in)
		k.checkReplicas(d, c, in)
		wrong.all = append(wrong.all, in.all...)
	}
	for _, s := range stack.Services {
		wrong.unless(got[s.AppID], "there is no Deployment of %s", s.AppID)
	}
	for _, s := range c.services {
		wrong.unless(slices.ContainsFunc(c.deployments, func(d *appsv1.Deployment) bool {
			return labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) &&
				s.Spec.Ports[0].TargetPort.IntVal == d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort
		}), "the Service %s leads to no port of a Deployment", s.Name)
	}
	return errors.Join(wrong.all...)
}

// faults are what is wrong with an object.
type faults struct {
	of  string
	all []error
}

func (f *faults) unless(right bool, format string, args ...any) {
	if !right {
		f.all = append(f.all, fmt.Errorf(strings.TrimPrefix(f.of+": ", ": ")+format, args...))
	}
}

func (f *faults) same(what string, want, got any) {
	diff := cmp.Diff(want, got)
	f.unless(diff == "", "%s (-want +got):\n%s", what, diff)
}

// checkKustomization checks the file that kustomize reads, and what the README says to do
// before.
func (k *kubernetes) checkKustomization(c cluster, wrong *faults) {
	var file struct {
		metav1.TypeMeta `json:",inline"`
		Resources       []string
		Images          []struct {
			Name    string
			NewName string `json:"newName"`
		}
	}
	if err := yaml.UnmarshalStrict([]byte(k.files["kustomization.yaml"]), &file, yaml.DisallowUnknownFields); err != nil {
		wrong.all = append(wrong.all, fmt.Errorf("kustomization.yaml: %w", err))
		return
	}
	wrong.same("kind", metav1.TypeMeta{APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization"}, file.TypeMeta)
	wrong.same("the resources of kustomization.yaml", k.manifests(), slices.Sorted(slices.Values(file.Resources)))

	var used, named, built []string
	for _, d := range c.deployments {
		used = append(used, d.Spec.Template.Spec.Containers[0].Image)
	}
	for _, image := range file.Images {
		named = append(named, image.Name)
		wrong.same("the new name of an image", image.Name, path.Base(image.NewName))
	}
	readme := k.files["README.md"]
	for _, folders := range regexp.MustCompile(`ko build --base-import-paths (.*)`).FindAllStringSubmatch(readme, -1) {
		for _, folder := range strings.Fields(folders[1]) {
			built = append(built, path.Base(folder))
			wrong.unless(k.programs[path.Clean(folder)] != "", "images: there is no program in %s", folder)
		}
	}
	slices.Sort(used)
	wrong.same("the images of kustomization.yaml", used, slices.Sorted(slices.Values(named)))
	wrong.same("the images that the README builds", used, slices.Sorted(slices.Values(built)))

	var applied []string
	for _, m := range regexp.MustCompile(`-f components/redis/(\S+)`).FindAllStringSubmatch(readme, -1) {
		applied = append(applied, m[1])
	}
	ours := slices.DeleteFunc(slices.Clone(k.redis), func(file string) bool { return file == stack.FilterFile })
	wrong.same("the component files that the README applies", ours, slices.Sorted(slices.Values(applied)))
}

// checkAccess checks who may invoke whom.
func (k *kubernetes) checkAccess(c cluster, wrong *faults) {
	access := make(map[string]string)
	for name, o := range c.configurations {
		access[name] = o.Spec.AccessControl.DefaultAction
		wrong.unless(len(o.Spec.AccessControl.Policies) == 0, "the Configuration %s lets in who is not an app of the project", name)
	}
	wrong.same("access by app", map[string]string{"inventory-service": "deny", "order-service": "allow", "dead-letters": "deny"}, access)
}

// checkFilter checks the filter's module and component. checkSidecar checks that each
// sidecar has them.
func (k *kubernetes) checkFilter(c cluster, wrong *faults) {
	wrong.unless(len(c.modules) == 1 && bytes.Equal(c.modules[0].BinaryData["answered.wasm"], k.module),
		"the ConfigMap does not hold components/answered.wasm: put `base64 -w0 components/answered.wasm` there")
	for _, component := range c.components {
		for _, app := range component.Scopes {
			wrong.unless(slices.ContainsFunc(stack.Services, func(s stack.Service) bool { return s.AppID == app }),
				"the component %s is for %s, which is no app", component.Metadata.Name, app)
		}
	}
}

// checkNetwork checks that each NetworkPolicy selects pods, and names ports that there
// are.
func (k *kubernetes) checkNetwork(c cluster, wrong *faults) {
	to := make(map[string][]string) // ports of egress, by namespace
	for _, n := range c.networks {
		ports := []string{k.sidecarPort("internal-grpc-port"), k.sidecarPort("metrics-port")}
		before := len(ports)
		for _, d := range c.deployments {
			if selects(&n.Spec.PodSelector, d) {
				ports = append(ports, d.Spec.Template.Annotations["dapr.io/app-port"])
			}
		}
		wrong.unless(len(ports) > before, "the NetworkPolicy %s selects no pod", n.Name)
		for _, rule := range n.Spec.Ingress {
			wrong.unless(len(rule.From) > 0, "the NetworkPolicy %s lets everybody in", n.Name)
			for _, p := range rule.Ports {
				wrong.unless(slices.Contains(ports, p.Port.String()), "the NetworkPolicy %s opens the port %s, which no pod has", n.Name, p.Port)
			}
		}
		for _, rule := range n.Spec.Egress {
			namespace := ""
			if len(rule.To) > 0 {
				namespace = rule.To[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
			}
			for _, p := range rule.Ports {
				protocol := corev1.ProtocolTCP
				if p.Protocol != nil {
					protocol = *p.Protocol
				}
				to[namespace] = append(to[namespace], fmt.Sprint(p.Port, "/", protocol))
			}
		}
	}
	wrong.same("DNS", []string{"53/UDP", "53/TCP"}, to["kube-system"])
	var servers []string
	for _, port := range k.servers {
		servers = append(servers, port+"/TCP")
	}
	slices.Sort(servers)
	wrong.same("the ports of the broker and the state store", slices.Compact(servers), to[""])
	wrong.unless(len(to["dapr-system"]) == 4, "Dapr's ports are %v", to["dapr-system"])
	for _, port := range to["dapr-system"] {
		port = strings.TrimSuffix(port, "/TCP")
		wrong.unless(regexp.MustCompile(`(targetPort|apiPort|containerPort): `+port+`\b`).MatchString(k.charts), "no part of Dapr has the port %s", port)
	}
}

// sidecarPort returns the port that a sidecar has unless an annotation says otherwise.
func (k *kubernetes) sidecarPort(annotation string) string {
	m := regexp.MustCompile(`annotation:"dapr.io/` + annotation + `" default:"(\d+)"`).FindStringSubmatch(k.injector)
	if m == nil {
		return "unknown"
	}
	return m[1]
}

// selects reports whether a selector selects the pods of a Deployment, once Dapr has put
// its labels on them.
func selects(s *metav1.LabelSelector, d *appsv1.Deployment) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(d.Spec.Template.Labels))
}

// checkApp checks that the container fits the program.
func (k *kubernetes) checkApp(d *appsv1.Deployment, c cluster, wrong *faults) {
	i := slices.IndexFunc(stack.Services, func(s stack.Service) bool { return s.AppID == d.Name })
	if i < 0 {
		wrong.unless(false, "it is no app of the project")
		return
	}
	app, pod := stack.Services[i], d.Spec.Template
	program, container, port := k.programs[app.Folder], pod.Spec.Containers[0], strconv.Itoa(app.Port)
	wrong.unless(selects(d.Spec.Selector, d), "its selector %v does not select its pods %v", d.Spec.Selector, pod.Labels)
	wrong.same("containers", 1, len(pod.Spec.Containers))
	wrong.same("image", path.Base(app.Folder), container.Image)
	wrong.same("dapr.io/app-id", app.AppID, pod.Annotations["dapr.io/app-id"])
	wrong.same("dapr.io/app-port", port, pod.Annotations["dapr.io/app-port"])
	wrong.same("the container's port", []corev1.ContainerPort{{ContainerPort: int32(app.Port)}}, container.Ports)
	wrong.unless(strings.Contains(program, "env.Addr("+port+")"), "the program's own port is not %s", port)
	for name, probe := range map[string]*corev1.Probe{"readiness": container.ReadinessProbe, "liveness": container.LivenessProbe} {
		get := (*corev1.HTTPGetAction)(nil)
		if probe != nil {
			get = probe.HTTPGet
		}
		wrong.unless(get != nil && get.Path == "/healthz" && get.Port.String() == port, "its %s probe does not ask for /healthz on the port %s", name, port)
	}

	env := make(map[string]corev1.EnvVar)
	for _, e := range container.Env {
		env[e.Name] = e
		wrong.unless(regexp.MustCompile(`\b`+e.Name+`\b`).MatchString(program), "the program has no variable %s", e.Name)
	}
	wrong.same("APP_HOST", "0.0.0.0", env["APP_HOST"].Value)
	for annotation, variable := range map[string]string{"dapr.io/app-token-secret": "APP_API_TOKEN", "dapr.io/api-token-secret": "DAPR_API_TOKEN"} {
		secret := pod.Annotations[annotation]
		wrong.unless(regexp.MustCompile(`kubectl create secret generic `+secret+` --from-literal=token=`).MatchString(k.files["README.md"]), "the README makes no secret %s with a token", secret)
		want := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: "token"}}
		wrong.same(variable, want, env[variable].ValueFrom)
	}
	wrong.same("APP_API_TOKEN", app.AppID+"-token", pod.Annotations["dapr.io/app-token-secret"])

	folder, keeps := env["DEAD_LETTERS_DIR"]
	wrong.same("a folder for letters", strings.Contains(program, "DEAD_LETTERS_DIR"), keeps)
	if keeps {
		wrong.unless(len(container.VolumeMounts) == 1 && container.VolumeMounts[0].MountPath == folder.Value, "there is no volume at DEAD_LETTERS_DIR")
		wrong.unless(slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Name == container.VolumeMounts[0].Name && v.PersistentVolumeClaim != nil &&
				slices.ContainsFunc(c.claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Name == v.PersistentVolumeClaim.ClaimName })
		}), "its volume is of no claim that there is")
		s := pod.Spec.SecurityContext
		wrong.unless(s != nil && s.FSGroup != nil && *s.FSGroup == *s.RunAsUser, "its fsGroup does not let it write into its volume")
	}
}

// checkSidecar checks the annotations by which Dapr makes the sidecar.
func (k *kubernetes) checkSidecar(d *appsv1.Deployment, c cluster, wrong *faults) {
	pod := d.Spec.Template
	for name := range pod.Annotations {
		wrong.unless(slices.Contains(k.annotations, name), "Dapr knows no annotation %s", name)
	}
	wrong.same("dapr.io/enabled", "true", pod.Annotations["dapr.io/enabled"])

	// The filter: its Configuration names the component, the component the module, and
	// the module is mounted there.
	config, ok := c.configurations[pod.Annotations["dapr.io/config"]]
	wrong.unless(ok && config.Metadata.Name == d.Name, "it has no Configuration of its own")
	wrong.unless(hasFilter(config), "its Configuration does not have the filter")
	wrong.unless(slices.ContainsFunc(c.components, func(c componentFile) bool {
		return c.Metadata.Name == "answered" && slices.Contains(c.Scopes, d.Name) && *c.Spec.Metadata[0].Value == "file:///answered/answered.wasm"
	}), "the filter's scopes leave it out, or the filter is somewhere else")
	wrong.same("where the filter is", "answered:/answered", pod.Annotations["dapr.io/volume-mounts"])
	v := pod.Spec.Volumes
	wrong.unless(len(v) > 0 && v[0].Name == "answered" && v[0].ConfigMap != nil && v[0].ConfigMap.Name == c.modules[0].Name, "it does not mount the ConfigMap of the filter")
	wrong.same("dapr.io/log-level", "warn", pod.Annotations["dapr.io/log-level"])
	wrong.same("dapr.io/app-max-concurrency", "", pod.Annotations["dapr.io/app-max-concurrency"])

	for _, name := range []string{"cpu-request", "memory-request", "memory-limit"} {
		_, err := resource.ParseQuantity(pod.Annotations["dapr.io/sidecar-"+name])
		wrong.unless(err == nil, "dapr.io/sidecar-%s: %v", name, err)
	}

	// The sidecar works for as long as the app does, and both end before they are killed.
	const drain, graceful = 20 * time.Second, 5 * time.Second // of web.Serve in each program; of the sidecar
	app := drain
	if hook := pod.Spec.Containers[0].Lifecycle; hook != nil {
		app += time.Duration(hook.PreStop.Sleep.Seconds) * time.Second
	}
	block, err := time.ParseDuration(pod.Annotations["dapr.io/block-shutdown-duration"])
	wrong.unless(err == nil && block >= app, "dapr.io/block-shutdown-duration is shorter than the %v that the app takes to end", app)
	grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	wrong.unless(grace >= block+graceful, "terminationGracePeriodSeconds is shorter than the %v that the sidecar takes to end", block+graceful)
}

func hasFilter(o configuration) bool {
	h := o.Spec.AppHTTPPipeline.Handlers
	return len(h) == 1 && h[0].Name == "answered" && h[0].Type == "middleware.http.wasm"
}

// checkPod checks what an operator asks of any pod. Kubernetes calls most of it the
// restricted standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/.
func checkPod(d *appsv1.Deployment, wrong *faults) {
	pod := d.Spec.Template.Spec
	isTrue := func(b *bool) bool { return b != nil && *b }
	isFalse := func(b *bool) bool { return b != nil && !*b }
	wrong.unless(isFalse(pod.AutomountServiceAccountToken), "it mounts the token of a service account")
	s := pod.SecurityContext
	if s == nil {
		s = &corev1.PodSecurityContext{}
	}
	wrong.unless(isTrue(s.RunAsNonRoot) && s.RunAsUser != nil && *s.RunAsUser > 0, "it may run as root")
	wrong.unless(s.SeccompProfile != nil && s.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "it has no seccomp profile")
	for _, container := range pod.Containers {
		s := container.SecurityContext
		if s == nil {
			s = &corev1.SecurityContext{}
		}
		wrong.unless(isTrue(s.ReadOnlyRootFilesystem), "it may write to its root file system")
		wrong.unless(isFalse(s.AllowPrivilegeEscalation), "it may gain privileges")
		wrong.unless(s.Capabilities != nil && slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}), "it keeps capabilities")
		r := container.Resources
		wrong.unless(!r.Requests.Cpu().IsZero() && !r.Requests.Memory().IsZero(), "its requests name no CPU or no memory")
		wrong.unless(!r.Limits.Memory().IsZero(), "it has no limit of memory")
	}
}

// checkReplicas checks how replicas are restarted, evicted, placed, and reached.
func (k *kubernetes) checkReplicas(d *appsv1.Deployment, c cluster, wrong *faults) {
	for _, way := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
		wrong.unless(slices.ContainsFunc(c.networks, func(n *networkingv1.NetworkPolicy) bool {
			return slices.Contains(n.Spec.PolicyTypes, way) && selects(&n.Spec.PodSelector, d)
		}), "no NetworkPolicy is for its %s", way)
	}
	budgets := 0
	for _, b := range c.budgets {
		if selects(b.Spec.Selector, d) {
			budgets++
			wrong.unless(b.Spec.MaxUnavailable != nil && b.Spec.MaxUnavailable.IntVal == 1, "its PodDisruptionBudget lets more than one replica be away")
		}
	}
	if *d.Spec.Replicas == 1 {
		wrong.unless(d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType, "its only replica has a volume: the strategy has to be Recreate")
		return
	}
	wrong.unless(budgets == 1, "it has %d PodDisruptionBudgets", budgets)
	update := d.Spec.Strategy.RollingUpdate
	wrong.unless(update != nil && update.MaxSurge.IntValue() == 1 && update.MaxUnavailable != nil && update.MaxUnavailable.IntValue() == 0, "its replicas are not restarted one after another")
	wrong.unless(time.Duration(d.Spec.MinReadySeconds)*time.Second >= k.pause, "minReadySeconds is %d: another sidecar takes over after %v", d.Spec.MinReadySeconds, k.pause)
	spread := make(map[string]bool)
	for _, s := range d.Spec.Template.Spec.TopologySpreadConstraints {
		spread[s.TopologyKey] = selects(s.LabelSelector, d)
	}
	wrong.same("spread over", map[string]bool{"topology.kubernetes.io/zone": true, "kubernetes.io/hostname": true}, spread)
}

// configurationOf writes one app's Configuration to a file, for a sidecar that is not on
// Kubernetes.
func configurationOf(t *testing.T, appID string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Project.Root, "components", "kubernetes", "configurations.yaml"))
	harness.Must(t, err)
	for _, document := range strings.Split(string(text), "\n---\n") {
		if strings.Contains(document, "\n  name: "+appID+"\n") {
			file := filepath.Join(t.TempDir(), appID+".yaml")
			harness.Must(t, os.WriteFile(file, []byte(document), 0o644))
			return file
		}
	}
	t.Fatalf("%s has no Configuration", appID)
	return ""
}

// On Kubernetes sidecars prove who they are. Here the certificates come from the same
// authority, without Kubernetes, and the Configurations are those of Kubernetes.
func TestConfigurationsForKubernetesKeepStrangersOut(t *testing.T) {
	t.Parallel()
	sentry, err := stack.Sentry(t.Context(), harness.Project.Root, os.Stderr)
	harness.Must(t, err)
	configs := make(map[bool]string)
	configs[true], configs[false] = configurationOf(t, "inventory-service"), configurationOf(t, "order-service")
	s := harness.Start(t, harness.Options{
		Mesh:   true,
		Sentry: sentry,
		Tokens: true,
		Each:   func(o *stack.AppOptions) { o.Config = configs[harness.IsInventory(o)] },
	})
	inventory := s.Inventory[0]
	s.SetStock("item1", 100)
	stranger := s.Serve("stranger", http.NewServeMux())

	// The mesh works, and lets anybody place an order.
	harness.WaitFor(t, time.Minute, func() error {
		a := s.InvokeFrom(stranger, s.Order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil)
		if a.Status != 200 {
			return fmt.Errorf("a stranger who places an order gets %d %s", a.Status, a.Body)
		}
		return nil
	})
	s.WaitForStock("item1", 90)

	order := `{"orderId":"forged","itemId":"item1","quantity":50}`
	event := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced","data":` + order + `}`
	for caller, from := range map[string]*stack.App{"a stranger": stranger, "the order service": s.Order} {
		for _, forged := range []struct{ method, path, contentType, body string }{
			{"POST", "/orders", harness.EventsJSON, event},
			{"POST", "/orders", harness.PlainJSON, order},
			{"POST", "/orders/retry", harness.EventsJSON, event},
			{"POST", "/Orders", harness.PlainJSON, order},
			{"POST", "/inventory/../orders", harness.PlainJSON, order},
			{"POST", "/inventory/item1", harness.PlainJSON, `{"quantity":1}`},
			{"GET", "/inventory/item1", "", ""},
			{"GET", "/dapr/subscribe", "", ""},
		} {
			for _, header := range harness.Hidings(inventory) {
				a := s.InvokeFrom(from, inventory, forged.method, forged.path, forged.contentType, forged.body, header)
				if a.Status == 200 || !strings.Contains(a.Body, "access control policy has denied access") {
					t.Errorf("%s sends %s %s with %v: got %d %s, want the sidecar to deny it", caller, forged.method, forged.path, header, a.Status, a.Body)
				}
			}
		}
	}
	// The service's own sidecar may do all.
	if a := s.InvokeFrom(inventory, inventory, "GET", "/inventory/item1", "", "", nil); a.Status != 200 || !strings.Contains(a.Body, "90") {
		t.Errorf("the service's own sidecar reads the stock: got %d %s", a.Status, a.Body)
	}
}

// A replica that has to end answers the requests that it still gets: its sidecar works
// until the app has ended.
func TestSidecarOnKubernetesPublishesUntilTheAppHasEnded(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	c, err := k.decode()
	harness.Must(t, err)
	i := slices.IndexFunc(c.deployments, func(d *appsv1.Deployment) bool { return d.Name == stack.Order.AppID })
	block := c.deployments[i].Spec.Template.Annotations["dapr.io/block-shutdown-duration"]
	s := harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		if !harness.IsInventory(o) {
			o.SidecarArgs = append(o.SidecarArgs, "--log-level", "info", "--dapr-block-shutdown-duration", block)
		}
	}})
	s.SetStock("item1", 100)
	ended := make(chan error, 1)
	go func() { ended <- s.Order.Sidecar.Stop(time.Minute) }()
	harness.WaitFor(t, time.Minute, func() error {
		if !strings.Contains(s.Order.Sidecar.Log(), "Blocking graceful shutdown for "+block) {
			return errors.New("the sidecar does not know that it has to end")
		}
		return nil
	})
	s.Place("order-1001", "item1", 10)
	s.WaitForStock("item1", 90)
	s.Order.Sidecar.Kill() // sooner than by itself
	harness.Must(t, <-ended)
}

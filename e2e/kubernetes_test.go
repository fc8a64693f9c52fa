package e2e

import (
	"errors"
	"fmt"
	"maps"
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
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

const kubernetesFolder = "components/kubernetes/"

// No cluster runs here. The test compares the files with Kubernetes's own types, with Dapr's
// custom resource definitions, with each other, and with the programs.
func TestKubernetesFilesFitTogether(t *testing.T) {
	t.Parallel()
	if err := newKubernetes(t).check(); err != nil {
		t.Error(err)
	}
}

// Each mistake breaks one rule of the check.
func TestKubernetesFilesThatAreWrongAreNoticed(t *testing.T) {
	t.Parallel()
	right := newKubernetes(t)
	mistakes := []mistake{
		// Fields and values that Kubernetes, kustomize or Dapr does not take.
		{"inventory.yaml", "containerPort:", "containerport:", "containerport"},
		{"configurations.yaml", "defaultAction: deny", "defaultAktion: deny", "defaultAktion"},
		{"filter.yaml", "name: url", "name: path", "path"},
		{"kustomization.yaml", "newName:", "newNames:", "newNames"},
		{"inventory.yaml", "dapr.io/sidecar-cpu-request", "dapr.io/sidecar-cpu", "sidecar-cpu"},
		{"order.yaml", `memory-limit: "1000Mi"`, `memory-limit: "1000MiB"`, "sidecar-memory-limit"},

		// What the page tells an operator.
		{"kustomization.yaml", "  - network.yaml\n", "", "resources"},
		{"kustomization.yaml", "name: deadletters", "name: dead-letters", "images"},
		{"README.md", "./daprhttp/deadletters\n", "./daprhttp\n", "the README does not have"},
		{"README.md", " dead-letters-token ", " ", "dead-letters-token"},
		{"README.md", "-f components/redis/retry.yaml ", "", "retry.yaml"},
		{"README.md", "After 11 seconds", "After 12 seconds", "After 11 seconds"},
		{"README.md", "after 41 seconds", "after 40 seconds", "after 41 seconds"},
		{"order.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"},
		{"inventory.yaml", "path: /healthz", "path: /health", "liveness"},
		{"inventory.yaml", "minReadySeconds: 15", "minReadySeconds: 10", "minReadySeconds"},
		{"inventory.yaml", "maxUnavailable: 1", "maxUnavailable: 2", "PodDisruptionBudget"},
		{"order.yaml", "terminationGracePeriodSeconds: 35", "terminationGracePeriodSeconds: 29", "terminationGracePeriodSeconds"},
		{"order.yaml", "sleep: {seconds: 5}", "sleep: {seconds: 6}", "block-shutdown-duration"},

		// Names and ports.
		{"inventory.yaml", "        app: inventory-service\n", "        app: inventory\n", "selector"},
		{"inventory.yaml", "          labelSelector:\n            matchLabels: {app: inventory-service}", "          labelSelector: {matchLabels: {app: inventory}}", "spread"},
		{"inventory.yaml", `app-port: "5001"`, `app-port: "5002"`, "app-port"},
		{"order.yaml", "targetPort: 5002", "targetPort: 5001", "Service"},
		{"dead-letters.yaml", "claimName: dead-letters", "claimName: letters", "volumes"},
		{"configurations.yaml", "name: dead-letters", "name: letters", "Configuration"},
		{"filter.yaml", "order-service, dead-letters]", "order-service]", "scopes"},
		{"filter.yaml", "AGFzbQE", "AGFzbQI", "base64"},
		{"network.yaml", "part-of: dapr-orders", "part-of: orders", "Egress"},
		{"network.yaml", "port: 5004", "port: 5005", "5005"},
	}
	areNoticed(t, kubernetesFolder, mistakes, func(file, text string) error {
		k := &kubernetes{files: maps.Clone(right.files), dapr: right.dapr, annotations: right.annotations}
		k.files[file] = text
		return k.check()
	})
}

// kubernetes checks the files of components/kubernetes.
type kubernetes struct {
	files       map[string]string // and those of components/redis, with the folder's name
	dapr        *daprRules
	annotations string // Dapr's source that declares the annotations

	objects        []runtime.Object // of Kubernetes
	filter         component
	configurations []string // names
	of             string   // the file or the Deployment that is checked
	errs           []error
}

func newKubernetes(t *testing.T) *kubernetes {
	t.Helper()
	k := &kubernetes{files: make(map[string]string), dapr: readDaprRules(t)}
	for _, file := range projectFiles(t, kubernetesFolder+"*", "components/redis/*", "components/answered.wasm") {
		k.files[strings.TrimPrefix(strings.TrimPrefix(file, kubernetesFolder), "components/")] = harness.Document(t, file)
	}
	dapr := harness.DaprModule(t, "github.com/dapr/dapr")
	source, err := os.ReadFile(filepath.Join(dapr, "pkg", "injector", "annotations", "annotations.go"))
	harness.Must(t, err)
	k.annotations = string(source)
	return k
}

// check returns every fault of the files.
func (k *kubernetes) check() error {
	manifests := slices.DeleteFunc(slices.Sorted(maps.Keys(k.files)), func(file string) bool {
		return strings.Contains(file, "/") || path.Ext(file) != ".yaml" || file == "kustomization.yaml"
	})
	k.decode(manifests)
	if k.errs != nil {
		return errors.Join(k.errs...)
	}
	k.checkKustomization(manifests)
	k.checkReadme()
	k.checkFilter()
	k.checkNetwork()
	deployments := objects[*appsv1.Deployment](k)
	k.same("Deployments", len(stack.Services), len(deployments))
	for _, d := range deployments {
		k.of = d.Name + ": "
		k.checkApp(d)
		k.checkVolumes(d)
		k.checkSecurity(d)
		k.checkShutdown(d)
		k.checkReplicas(d)
	}
	return errors.Join(k.errs...)
}

func (k *kubernetes) noError(err error) {
	if err != nil {
		k.errs = append(k.errs, fmt.Errorf("%s%w", k.of, err))
	}
}

func (k *kubernetes) isTrue(right bool, format string, args ...any) {
	if !right {
		k.noError(fmt.Errorf(format, args...))
	}
}

func (k *kubernetes) same(what string, want, got any) {
	diff := cmp.Diff(want, got)
	k.isTrue(diff == "", "%s (-want +got):\n%s", what, diff)
}

// decode reads the files. A field that Kubernetes or Dapr does not know is an error.
func (k *kubernetes) decode(manifests []string) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme} {
		k.noError(add(scheme))
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for _, file := range manifests {
		k.of = file + ": "
		for document := range strings.SplitSeq(k.files[file], "\n---\n") {
			if !strings.Contains(document, "apiVersion: dapr.io/") {
				object, _, err := strict.Decode([]byte(document), nil, nil)
				k.noError(err)
				k.objects = append(k.objects, object)
				continue
			}
			k.noError(k.dapr.check(document))
			var c component
			k.noError(yaml.Unmarshal([]byte(document), &c))
			if c.Spec.Type != "" {
				k.filter = c
			} else {
				k.configurations = append(k.configurations, c.Metadata.Name)
			}
		}
	}
	k.of = ""
}

// objects returns the objects of a type.
func objects[T runtime.Object](k *kubernetes) (found []T) {
	for _, object := range k.objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

func (k *kubernetes) checkKustomization(manifests []string) {
	var file struct {
		metav1.TypeMeta `json:",inline"`
		Resources       []string
		Images          []struct {
			Name    string
			NewName string `json:"newName"`
		}
	}
	k.noError(yaml.UnmarshalStrict([]byte(k.files["kustomization.yaml"]), &file))
	k.same("kustomization.yaml", metav1.TypeMeta{APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization"}, file.TypeMeta)
	k.same("the resources of kustomization.yaml", manifests, slices.Sorted(slices.Values(file.Resources)))
	want, got := make(map[string]string), make(map[string]string)
	for _, image := range file.Images {
		got[image.Name] = path.Base(image.NewName)
	}
	for _, s := range stack.Services {
		want[path.Base(s.Folder)] = path.Base(s.Folder)
	}
	k.same("the images of kustomization.yaml", want, got)
}

// checkReadme checks that the commands name all programs, secrets and component files.
func (k *kubernetes) checkReadme() {
	needed := []string{
		" dapr-api-token; do ", "generic $name --from-literal=token=",
		fmt.Sprintf("After %.0f seconds", k.takeover("pubsub.yaml").Seconds()),
		fmt.Sprintf("after %.0f seconds, those of the retry topic", k.takeover("retry.yaml").Seconds()),
	}
	for _, s := range stack.Services {
		needed = append(needed, " ./"+s.Folder+" ", " "+s.AppID+"-token ")
	}
	for name := range k.files {
		if strings.HasPrefix(name, "redis/") && path.Base(name) != stack.FilterFile { // filter.yaml has the filter
			needed = append(needed, " -f components/"+name+" ")
		}
	}
	readme := strings.ReplaceAll(k.files["README.md"], "\n", " ")
	for _, text := range needed {
		k.isTrue(strings.Contains(readme, text), "the README does not have %q", text)
	}
}

// setting returns a setting of a component file of the broker.
func (k *kubernetes) setting(file, name string) string {
	return regexp.MustCompile("name: " + name + `.*\n *value: "(.*)"`).FindStringSubmatch(k.files["redis/"+file])[1]
}

// takeover returns the time until another sidecar delivers the events of a dead sidecar.
func (k *kubernetes) takeover(file string) time.Duration {
	timeout, err := time.ParseDuration(k.setting(file, "processingTimeout"))
	k.noError(err)
	interval, err := time.ParseDuration(k.setting(file, "redeliverInterval") + "ms")
	k.noError(err)
	return timeout + interval
}

// checkFilter checks the module of the filter, and the component that names it.
func (k *kubernetes) checkFilter() {
	var apps []string
	for _, s := range stack.Services {
		apps = append(apps, s.AppID)
	}
	k.same("the scopes of the filter", slices.Sorted(slices.Values(apps)), slices.Sorted(slices.Values(k.filter.Scopes)))
	k.same("the filter's name", "answered", k.filter.Metadata.Name)
	k.same("the filter's module", "file:///answered/answered.wasm", *k.filter.Spec.Metadata[0].Value)
	module := objects[*corev1.ConfigMap](k)[0].BinaryData["answered.wasm"]
	k.isTrue(string(module) == k.files["answered.wasm"], "the ConfigMap does not have what base64 -w0 components/answered.wasm prints")
}

// checkNetwork checks that the NetworkPolicies name the ports of the apps, of their sidecars
// and of their servers, and let in only programs that they name.
func (k *kubernetes) checkNetwork() {
	_, redis, _ := strings.Cut(k.setting("pubsub.yaml", "redisHost"), ":")
	want := []string{redis, "53", "6500", "9090", "50001", "50002", "50005", "50006"} // DNS; Dapr's, as its Helm chart has them
	for _, s := range stack.Services {
		want = append(want, strconv.Itoa(s.Port))
	}
	var got []string
	for _, port := range regexp.MustCompile(`port: (\d+)`).FindAllStringSubmatch(k.files["network.yaml"], -1) {
		got = append(got, port[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	k.same("ports in network.yaml", want, slices.Compact(got))
	for _, n := range objects[*networkingv1.NetworkPolicy](k) {
		for _, rule := range n.Spec.Ingress {
			k.isTrue(len(rule.From) > 0, "the NetworkPolicy %s lets every program in", n.Name)
		}
	}
}

// checkApp checks that the container and the sidecar fit the program.
func (k *kubernetes) checkApp(d *appsv1.Deployment) {
	i := slices.IndexFunc(stack.Services, func(s stack.Service) bool { return s.AppID == d.Name })
	if i < 0 {
		k.isTrue(false, "it is no app of the project")
		return
	}
	app, pod := stack.Services[i], d.Spec.Template
	container, port := pod.Spec.Containers[0], strconv.Itoa(app.Port)
	k.isTrue(selects(d.Spec.Selector, d), "its selector does not select its pods")
	k.same("image", path.Base(app.Folder), container.Image)
	for _, service := range objects[*corev1.Service](k) {
		selector := labels.SelectorFromSet(service.Spec.Selector)
		leads := selector.Matches(labels.Set(pod.Labels)) && service.Spec.Ports[0].TargetPort.String() == port
		k.same("the Service "+service.Name+" leads here", service.Name == d.Name, leads)
	}
	k.same("the container's port", []corev1.ContainerPort{{ContainerPort: int32(app.Port)}}, container.Ports)
	for name, probe := range map[string]*corev1.Probe{"readiness": container.ReadinessProbe, "liveness": container.LivenessProbe} {
		k.isTrue(probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Path == "/healthz" && probe.HTTPGet.Port.String() == port,
			"its %s probe does not ask for /healthz on the port %s", name, port)
	}
	k.isTrue(slices.Contains(k.configurations, app.AppID), "it has no Configuration of its own")
	for name, want := range map[string]string{
		"enabled":          "true",
		"app-id":           app.AppID,
		"app-port":         port,
		"config":           app.AppID,
		"log-level":        "warn",
		"volume-mounts":    "answered:/answered",
		"app-token-secret": app.AppID + "-token",
		"api-token-secret": "dapr-api-token",
	} {
		k.same("dapr.io/"+name, want, pod.Annotations["dapr.io/"+name])
	}
	for name, value := range pod.Annotations {
		k.isTrue(strings.Contains(k.annotations, strconv.Quote(name)), "Dapr knows no annotation %s", name)
		if strings.HasSuffix(name, "-request") || strings.HasSuffix(name, "-limit") {
			_, err := resource.ParseQuantity(value)
			k.isTrue(err == nil, "%s: %v", name, err)
		}
	}

	got := make(map[string]string)
	for _, e := range container.Env {
		got[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			got[e.Name] = e.ValueFrom.SecretKeyRef.Name + " " + e.ValueFrom.SecretKeyRef.Key
		}
	}
	want := map[string]string{"APP_HOST": "0.0.0.0", "APP_API_TOKEN": app.AppID + "-token token", "DAPR_API_TOKEN": "dapr-api-token token"}
	if app == stack.DeadLetters {
		want["DEAD_LETTERS_DIR"] = "/letters"
	}
	k.same("environment", want, got)
}

// selects reports whether a selector selects the pods of a Deployment.
func selects(s *metav1.LabelSelector, d *appsv1.Deployment) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(d.Spec.Template.Labels))
}

// checkVolumes checks that the sidecar gets the filter's module, and that the program of the
// dead letters may write to a volume.
func (k *kubernetes) checkVolumes(d *appsv1.Deployment) {
	pod := d.Spec.Template.Spec
	got := make(map[string]string)
	for _, v := range pod.Volumes {
		switch {
		case v.ConfigMap != nil:
			got[v.Name] = v.ConfigMap.Name
		case v.PersistentVolumeClaim != nil:
			got[v.Name] = v.PersistentVolumeClaim.ClaimName
		}
	}
	want, mounts := map[string]string{"answered": objects[*corev1.ConfigMap](k)[0].Name}, []corev1.VolumeMount(nil)
	if d.Name == stack.DeadLetters.AppID {
		want["letters"] = objects[*corev1.PersistentVolumeClaim](k)[0].Name
		mounts = []corev1.VolumeMount{{Name: "letters", MountPath: "/letters"}}
		k.same("fsGroup", pod.SecurityContext.RunAsUser, pod.SecurityContext.FSGroup)
	}
	k.same("volumes", want, got)
	k.same("mounts", mounts, pod.Containers[0].VolumeMounts)
}

// checkSecurity checks that a namespace with the standard "restricted" takes the pods,
// https://kubernetes.io/docs/concepts/security/pod-security-standards/, and two rules more.
func (k *kubernetes) checkSecurity(d *appsv1.Deployment) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	k.noError(err)
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	pod := d.Spec.Template.Spec
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &d.Spec.Template.ObjectMeta, &pod))
	k.isTrue(result.Allowed, "%s", result.ForbiddenDetail())
	k.same("token of a service account", ptr.To(false), pod.AutomountServiceAccountToken)
	k.same("read-only file system", ptr.To(true), pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem)
}

// checkShutdown checks that the sidecar works for as long as the app does, and that both end
// before they are killed.
func (k *kubernetes) checkShutdown(d *appsv1.Deployment) {
	const drain, graceful = 20 * time.Second, 5 * time.Second // of web.Run in each program; of the sidecar
	pod := d.Spec.Template
	app := drain
	if hook := pod.Spec.Containers[0].Lifecycle; hook != nil {
		app += time.Duration(hook.PreStop.Sleep.Seconds) * time.Second
	}
	block, err := time.ParseDuration(pod.Annotations["dapr.io/block-shutdown-duration"])
	k.isTrue(err == nil && block >= app, "dapr.io/block-shutdown-duration is shorter than the %v that the app takes to end", app)
	grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	k.isTrue(grace >= block+graceful, "terminationGracePeriodSeconds is shorter than the %v that the sidecar takes to end", block+graceful)
}

// checkReplicas checks how replicas are replaced, evicted, placed and shielded.
func (k *kubernetes) checkReplicas(d *appsv1.Deployment) {
	for _, way := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
		k.isTrue(slices.ContainsFunc(objects[*networkingv1.NetworkPolicy](k), func(n *networkingv1.NetworkPolicy) bool {
			return slices.Contains(n.Spec.PolicyTypes, way) && selects(&n.Spec.PodSelector, d)
		}), "no NetworkPolicy is for its %s", way)
	}
	if d.Name == stack.DeadLetters.AppID {
		k.same("the strategy, since one pod at a time may have the volume", appsv1.RecreateDeploymentStrategyType, d.Spec.Strategy.Type)
		return
	}
	k.isTrue(slices.ContainsFunc(objects[*policyv1.PodDisruptionBudget](k), func(b *policyv1.PodDisruptionBudget) bool {
		return selects(b.Spec.Selector, d) && b.Spec.MaxUnavailable.IntValue() == 1
	}), "no PodDisruptionBudget lets only one replica be away")
	update := d.Spec.Strategy.RollingUpdate
	k.same("MaxSurge and MaxUnavailable", []int{1, 0}, []int{update.MaxSurge.IntValue(), update.MaxUnavailable.IntValue()})
	ready := time.Duration(d.Spec.MinReadySeconds) * time.Second
	takeover := k.takeover("pubsub.yaml")
	k.isTrue(ready >= takeover, "minReadySeconds is shorter than the %v until another sidecar takes over", takeover)
	for _, s := range d.Spec.Template.Spec.TopologySpreadConstraints {
		k.isTrue(selects(s.LabelSelector, d), "its pods are not spread over each %s", s.TopologyKey)
	}
}

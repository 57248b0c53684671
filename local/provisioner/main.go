// Command provisioner gives the local cluster's StorageClass "local" its volumes: one directory of this machine for each claim.
//
// It runs beside the control plane, not in a pod, because the nodes are namespaces of the same machine and see the same
// directories. A volume is a PersistentVolume of type local with node affinity, so that the kubelet applies fsGroup to it.
// It must not touch anything outside its root directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	name     = "ddb.local/directory"
	hostname = "kubernetes.io/hostname"
)

type directories struct{ root string }

// Provision makes the directory of one claim on the node that the scheduler chose.
func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if o.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, errors.New("no node was selected: the class must bind WaitForFirstConsumer")
	}
	if o.PVC.Spec.VolumeMode != nil && *o.PVC.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("block volumes are not offered, only directories")
	}
	path := filepath.Join(d.root, o.SelectedNodeName, o.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("making %s: %w", path, err)
	}
	// MkdirAll obeys the umask, and processes of any uid must be able to write here.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("opening %s: %w", path, err)
	}
	mode := v1.PersistentVolumeFilesystem
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					// Here a node's hostname label is its name.
					Key: hostname, Operator: v1.NodeSelectorOpIn, Values: []string{o.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the directory; one that is gone already counts as removed.
func (d directories) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.Local == nil {
		return fmt.Errorf("volume %s is not a local one", volume.Name)
	}
	path := filepath.Clean(volume.Spec.Local.Path)
	if !strings.HasPrefix(path, d.root+string(filepath.Separator)) {
		return fmt.Errorf("volume %s lies at %s, outside %s: left alone", volume.Name, path, d.root)
	}
	return os.RemoveAll(path)
}

func run() error {
	root := flag.String("root", "", "directory that holds the volumes, as NODE/VOLUME")
	kubeconfig := flag.String("kubeconfig", "", "credentials for the API server")
	flag.Parse()
	if *root == "" || *kubeconfig == "" {
		return errors.New("both -root and -kubeconfig are needed")
	}
	absolute, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// One copy runs, so an election would only delay the first volume.
	controller.NewProvisionController(ctx, client, name, directories{root: absolute}, controller.LeaderElection(false)).Run(ctx)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}

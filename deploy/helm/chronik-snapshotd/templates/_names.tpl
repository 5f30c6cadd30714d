{{/* Name of everything that this chart makes. */}}
{{- define "chronik-snapshotd.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 34 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "chronik-snapshotd.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: snapshot-sidecar
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* How NetworkPolicy and PodMonitor find the broker's pods. */}}
{{- define "chronik-snapshotd.podLabels" -}}
chronik-snapshot/sidecar: {{ include "chronik-snapshotd.fullname" . }}
{{- end -}}

{{/* A changed setting restarts the brokers one after the other, so that their sidecars read it. */}}
{{- define "chronik-snapshotd.podAnnotations" -}}
chronik-snapshot/config: {{ include "chronik-snapshotd.settings" . | sha256sum }}
{{- end -}}

{{/* Name of the Secret with the S3 keys; empty = none. */}}
{{- define "chronik-snapshotd.secretName" -}}
{{- with .Values.s3Keys -}}
{{- if .existingSecret -}}
{{- if or .accessKey .secretKey -}}
{{- fail "s3Keys: give existingSecret or the two keys, not both" -}}
{{- end -}}
{{- .existingSecret -}}
{{- else if and .accessKey .secretKey -}}
{{- printf "%s-s3" (include "chronik-snapshotd.fullname" $) -}}
{{- else if or .accessKey .secretKey -}}
{{- fail "s3Keys: accessKey and secretKey go together" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "chronik-snapshotd.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "chronik-snapshotd.fullname" .) -}}
{{- end -}}

{{/* The settings as data of the ConfigMap. Numbers of values files are floats: a million must not become 1e+06. */}}
{{- define "chronik-snapshotd.settings" -}}
{{- range $name, $value := .Values.config }}
{{ $name }}: {{ if kindIs "float64" $value }}{{ $value | int64 | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
{{- end }}
CHRONIK_SNAPSHOT_LISTEN: {{ .Values.listen | default (printf "unix:%s/sidecar.sock" .Values.socketDir) | quote }}
CHRONIK_SNAPSHOT_METRICS_LISTEN: {{ printf "0.0.0.0:%d" (int64 .Values.metricsPort) | quote }}
{{- if include "chronik-snapshotd.secretName" . }}
S3_ACCESS_KEY_FILE: {{ printf "/run/secrets/s3/%s" .Values.s3Keys.accessKeyField | quote }}
S3_SECRET_KEY_FILE: {{ printf "/run/secrets/s3/%s" .Values.s3Keys.secretKeyField | quote }}
{{- end }}
{{- if .Values.brokerTls.existingSecret }}
CHRONIK_SNAPSHOT_BROKER_TLS_CA: /run/secrets/broker-tls/ca.crt
{{- if .Values.brokerTls.clientCertificate }}
CHRONIK_SNAPSHOT_BROKER_TLS_CERT: /run/secrets/broker-tls/tls.crt
CHRONIK_SNAPSHOT_BROKER_TLS_KEY: /run/secrets/broker-tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

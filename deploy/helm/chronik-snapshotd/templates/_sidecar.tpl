{{/*
The sidecar, as an item of the broker's initContainers. With restartPolicy Always it starts before the broker and stops after
it. No readinessProbe: it would count for the pod, and a broker without its sidecar serves clients all the same.
*/}}
{{- define "chronik-snapshotd.initContainer" -}}
- name: chronik-snapshotd
  image: {{ include "chronik-snapshotd.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [run]
  envFrom:
    - configMapRef:
        name: {{ include "chronik-snapshotd.fullname" . }}
  {{- with .Values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: snapshot-http
      containerPort: {{ .Values.metricsPort }}
      protocol: TCP
  startupProbe:
    exec:
      command: [/usr/local/bin/chronik-snapshotd, health]
    {{- toYaml .Values.startupProbe | nindent 4 }}
  livenessProbe:
    httpGet:
      path: /healthz
      port: snapshot-http
    {{- toYaml .Values.livenessProbe | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - name: chronik-snapshot
      mountPath: {{ .Values.socketDir }}
    {{- if include "chronik-snapshotd.secretName" . }}
    - name: chronik-snapshotd-s3
      mountPath: /run/secrets/s3
      readOnly: true
    {{- end }}
    {{- if .Values.brokerTls.existingSecret }}
    - name: chronik-snapshotd-broker-tls
      mountPath: /run/secrets/broker-tls
      readOnly: true
    {{- end }}
{{- end -}}

{{- define "chronik-snapshotd.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Items of the pod's volumes. */}}
{{- define "chronik-snapshotd.volumes" -}}
- name: chronik-snapshot
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- with include "chronik-snapshotd.secretName" . }}
- name: chronik-snapshotd-s3
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.brokerTls.existingSecret }}
- name: chronik-snapshotd-broker-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* Items of the broker container's volumeMounts. */}}
{{- define "chronik-snapshotd.brokerVolumeMounts" -}}
- name: chronik-snapshot
  mountPath: {{ .Values.socketDir }}
{{- end -}}

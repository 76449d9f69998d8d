{{- define "cbw.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "cbw.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* By which a Deployment and a policy find pods: (list $ component). These never change in the life of a release. */}}
{{- define "cbw.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ $.Chart.Name }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "cbw.labels" -}}
{{- $ := index . 0 -}}
{{ include "cbw.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version }}
{{- end }}

{{/* The part of a pod that all roles have: (list $ role), where role has nodeSelector and tolerations. */}}
{{- define "cbw.pod" -}}
{{- $ := index . 0 -}}{{- $role := index . 1 -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001  # volumes and Secrets
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $role.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $role.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "cbw.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Variables of every role: (list $ role sends), where sends says whether it sends its trace to the logger. */}}
{{- define "cbw.env" -}}
{{- $ := index . 0 -}}{{- $role := index . 1 -}}
- {name: CBW_LISTEN, value: {{ $.Values.listen | quote }}}
{{- if $.Values.keys.existingSecret }}
- {name: CBW_KEYS, value: /run/cbw/keys}
- {name: CBW_STATUS_TOKEN_FILE, value: /run/cbw/keys/status.token}
{{- end }}
{{- if and (index . 2) $.Values.logger.enabled }}
- {name: LOGGER_HOST, value: {{ include "cbw.name" $ }}-logger}
- {name: LOGGER_PORT, value: "9995"}
- {name: CBW_LOG_LEVEL, value: {{ $.Values.logger.level }}}
{{- end }}
{{- range $name, $value := $role.env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- define "cbw.probes" -}}
livenessProbe:
  httpGet: {path: /livez, port: status}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 3
{{- end }}

{{- define "cbw.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.keys.existingSecret }}
- {name: keys, mountPath: /run/cbw/keys, readOnly: true}
{{- end }}
{{- end }}

{{/* What cbw.mounts mounts: (list $ secret), where secret has the keys. */}}
{{- define "cbw.volumes" -}}
{{- $ := index . 0 -}}
- name: tmp
  emptyDir: {}
{{- if $.Values.keys.existingSecret }}
- name: keys
  secret: {secretName: {{ index . 1 }}, defaultMode: 0400}
{{- end }}
{{- end }}

{{- define "cbw.journal" -}}
{{- $nats := .Values.broker.journal.nats -}}
{{- if eq .Values.broker.journal.type "file" -}}
/var/lib/cbw
{{- else -}}
{{- $files := list -}}
{{- with $nats.credentials }}{{ $files = append $files (printf "credentials=/run/cbw/nats/%s" .) }}{{ end -}}
{{- with $nats.ca }}{{ $files = append $files (printf "ca=/run/cbw/nats/%s" .) }}{{ end -}}
nats://{{ join "," $nats.servers }}/{{ $nats.name }}{{ if $files }}?{{ join "&" $files }}{{ end }}
{{- end -}}
{{- end }}

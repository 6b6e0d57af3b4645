package explain

import "github.com/modsluice/sluice/internal/finding"

// gitWords are what git says in other languages than English, beside what is in
// rules. They are its translations of the same few messages, as its message
// catalogues have them, and are written like rules: with its quotation marks, where the
// words alone are those of any sentence.
var gitWords = []struct {
	code    finding.Code
	phrases string
}{
	{finding.VCSRejected, `
Неуспешна идентификация към
s'ha produït un error en autenticar per
autentikasi gagal untuk
uwierzytelnienie nie powiodło się dla
autentisering misslyckades
için kimlik doğrulaması başarısız
xác thực gặp lỗi cho
身份驗證失敗
`},
	{finding.VCSRepoNotFound, `
хранилището „*" липсва
no s'ha trobat el repositori
repositori '*' tidak ditemukan
nie znaleziono repozytorium
repositório '*' inexistente
arkivet "*" hittades inte
deposu bulunamadı
không tìm thấy kho
版本庫 '*' 未找到
`},
	{finding.UnknownRevision, `
отдалеченият указател*не може да бъде открит
такъв отдалечен указател няма
Сървърът не позволява заявка за необявен обект
указателят не сочи към обект-дърво
no s'ha pogut trobar la referència remota
no existeix la referència remota
el servidor no permet sol·licitar objectes no anunciats
la referència no és un arbre
remote-referenz*nicht gefunden
der server lehnt anfrage nach nicht angebotenem objekt*ab
referenz ist kein*tree*-objekt
δεν ήταν δυνατή η εύρεση του απομακρυσμένου ref
δεν υπάρχει τέτοιο απομακρυσμένο ref
η αναφορά δεν είναι δέντρο
no se pudo encontrar ref remota
no existe ref remota
el servidor no permite solicitudes de objetos inadvertidos
la referencia no es un árbol
référence distante inconnue
le serveur n'autorise pas de requête pour l'objet*non annoncé
la référence n'est pas un arbre
tidak dapat menemukan referensi remote
tidak ada referensi remote seperti
peladen tidak memperbolehkan permintaan untuk objek tak diiklankan
referensi bukan pohon
impossibile trovare il riferimento remoto
riferimento remoto non esistente
il server non consente richieste per l'oggetto non pubblicizzato
il riferimento non è un albero
그런 리모트가 레퍼런스가 없습니다
서버에서 알려지지 않은*오브젝트에 대한 요청을 허용하지 않습니다
레퍼런스가 트리가 아닙니다
nie znaleziono zdalnej referencji
nie ma takiej zdalnej referencji
serwer nie pozwala na żądanie o nieogłoszony obiekt
referencja nie jest drzewem
incapaz encontrar ref remoto
referência remota*inexistente
servidor proíbe pedido de objeto por anunciar
referência é árvore nenhuma
нет такой внешней ссылки
Сервер не поддерживает запрос необъявленного объекта
в дереве нет такой ссылки
kunde inte hitta fjärr-referensen
ingen sådan fjärreferens
servern tillåter inte förfrågan om ej tillkännagivet objekt
referensen är inte ett träd
uzak başvurusu bulunamadı
böyle bir uzak başvuru yok
sunucu*tanıtılmamış nesnesi için isteğe izin vermiyor
başvuru bir ağaca değil
không thể tìm thấy tham chiếu máy chủ
không có máy chủ tham chiếu nào như
máy phục vụ không cho phép yêu cầu cho đối tượng không được báo trước
tham chiếu không phải là một cây
没有这样的远程引用
服务器不允许请求未公开的对象
引用不是一个树
無法找到遠端引用
沒有這樣的遠端引用
伺服器不允許請求未公開的物件
引用不是一個樹
`},
	{finding.SourceReset, `
неочакван край на файл
fetch-pack: неправилен изход от командата*index-pack
?отдалеченото хранилище неочаквано прекъсна връзката
eof prematur
fetch-pack: sortida d'index-pack no vàlida
?el remot ha penjat inesperadament
zu frühes dateiende
fetch-pack: ungültige index-pack ausgabe
?die gegenseite hat unerwartet abgebrochen
πρόωρο eof
eof temprano
fetch-pack: salida de index-pack no válida
?el remoto se colgó de manera inesperada
fin de fichier prématurée
fetch-pack : sortie d'index de pack invalide
?l'hôte distant a fermé la connexion de manière inattendue
eof awal
fetch-pack: keluaran index-pack tidak valid
?ujung remote menggantung secara tidak terduga
eof prematuro
?l'interlocutore remoto ha chiuso inaspettatamente la connessione
너무 빨리 파일이 끝남
przedwczesny koniec pliku
fetch-pack: nieprawidłowe wyjście index-pack
?zdalna maszyna nieoczekiwanie się rozłączyła
fetch-pack: saída de cenário-pacote inválido
?o lado remoto desligou inesperadamente
неожиданный конец файла
tidigt filslut
fetch-patch: ogiltig utdata från index-pack
?fjärren lade på oväntat
erken dosya sonu
fetch-pack: geçersiz index-pack çıktısı
?uzak konum beklenmedik bir biçimde hattı kapattı
gặp kết thúc tập tin eof quá sớm
fetch-pack: kết xuất index-pack không hợp lệ
?máy chủ bị treo bất ngờ
过早的文件结束符（eof）
fetch-pack：无效的 index-pack 输出
過早的檔案結束符（eof）
fetch-pack：無效的 index-pack 輸出
?遠端意外掛斷了
`},
	{finding.InsecureScheme, `
преносът по „*" не е позволен
no es permet el transport
Übertragungsart '*' nicht erlaubt
transporte '*' no permitido
transport '*' non permis
transportasi '*' tidak diperbolehkan
trasporto '*' non consentito
transport „*" niedozwolony
transport '*' proibido
transporten "*" tillåts inte
taşıyıcısına izin verilmiyor
không cho phép phương thức vận chuyển
传输 '*' 不允许
傳輸 '*' 不允許
`},
	{finding.VCSMissing, `
насрещната помощна програма за*не може да бъде открита
no s'ha pogut trobar l'ajudant remot per a
konnte remote-helper für*nicht finden
no es posible encontrar helper remoto para
impossible de trouver un assistant distant pour
tidak dapat menemukan pembantu remote untuk
impossibile trovare l'helper remoto per
nie znaleziono zdalnego pomocnika do
incapaz de encontrar helper remoto para
kan inte hitta fjärrhjälpare för
için uzak konum yardımcısı bulunamadı
không thể tìm thấy bộ hỗ trợ máy chủ cho
无法为*找到远程助手
無法為*找到遠端協助工具
`},
}
